"""Many simulated labelers at a real server that is killed again and again; then: is everything there that was promised?

    result = storm(Server(arguments), labelers=50, submissions=5000, kills=10, think=1.0)

`tests/labeling/test_faults.py` runs a short storm, `benchmarks/label_load.py` the long one.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from heed.labeling.simulated import Answered, SimulatedLabeler, Taste, by_length
from heed.labeling.store import reading, tasks
from heed.labeling.store.database import Database

WORKING = [sys.executable, "-m", "heed.cli"]
BROKEN = [sys.executable, str(Path(__file__).with_name("broken_server.py"))]
"""A server that acknowledges before it commits."""

PATIENCE = 240.0  # seconds; on a machine with much else to do a start takes long
LINK = re.compile(r"invite (\S+): (http\S+)")


class Server:
    """`heed label` as a process to be killed and started again on its port; a context manager that lets none live."""

    def __init__(self, program: Sequence[str], arguments: Sequence[str], log: Path) -> None:
        self._command = [*program, "label", *arguments, "--no-browser"]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def start(self, *more: str) -> dict[str, str]:
        """Start it; returns the links of labelers who were invited by `more` arguments."""
        before = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*self._command, *more], stdout=log, stderr=log, env=os.environ)
        deadline = time.monotonic() + PATIENCE
        while True:
            told = self._log.read_bytes()[before:].decode()
            if "each link works once" in told:
                return dict(LINK.findall(told))
            assert self._process.poll() is None and time.monotonic() < deadline, told
            time.sleep(0.02)

    def kill(self) -> None:
        """As if the power had failed."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> int:
        """As Ctrl-C does; returns the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(60)


@dataclass
class Storm:
    """What was acknowledged, to whom, and how long it took; `quiet` are the times at which no server was dead."""

    acknowledged: dict[str, list[Answered]] = field(default_factory=dict)
    took: list[tuple[float, float]] = field(default_factory=list)  # (when it was acknowledged, seconds)
    outages: list[tuple[float, float]] = field(default_factory=list)
    deaths: dict[str, BaseException] = field(default_factory=dict)  # labelers who could not go on, and why
    seconds: float = 0.0

    @property
    def total(self) -> int:
        return sum(map(len, self.acknowledged.values()))

    def calm(self, around: float = 1.0) -> list[float]:
        """Seconds that answers took while no server was dead, nor had just been started."""
        return [
            seconds
            for when, seconds in self.took
            if not any(began <= when and when - seconds <= ended + around for began, ended in self.outages)
        ]


def storm(server: Server, names: Sequence[str], submissions: int, kills: int, think: float, seed: int = 0) -> Storm:
    """Let labelers work until so many submissions are acknowledged, killing the server `kills` times on the way.

    Thinking takes `think` seconds on average, from half to one and a half of it. Raises StormError where a labeler
    died, or where so little was acknowledged that nothing could have been lost.
    """
    found, enough = Storm(), threading.Event()
    links = server.start("--invite", *names)
    taste, began = by_length(1), time.monotonic()
    crew = [
        threading.Thread(target=_live, args=(found, name, links[name], taste, think, seed, enough), daemon=True)
        for name in names
    ]
    for each in crew:
        each.start()
    for number in range(1, kills + 1):
        _wait(found, submissions * number // (kills + 1), crew)
        died = time.monotonic()
        server.kill()
        server.start()
        found.outages.append((died, time.monotonic()))
    _wait(found, submissions, crew)
    enough.set()
    for each in crew:
        each.join()
    found.seconds = time.monotonic() - began
    _refuse_empty(found, names, submissions)
    return found


class StormError(AssertionError):
    """A storm that proves nothing."""


def _refuse_empty(found: Storm, names: Sequence[str], submissions: int) -> None:
    _refuse_deaths(found)
    idle = [name for name in names if not found.acknowledged.get(name)]
    if idle:
        raise StormError(f"nothing was acknowledged to {', '.join(idle)}: nothing of theirs could have been lost")
    if found.total < submissions:
        raise StormError(f"{found.total} submissions were acknowledged, not {submissions}: were there enough tasks?")


def _refuse_deaths(found: Storm) -> None:
    for name, reason in list(found.deaths.items()):
        raise StormError(f"{name} died: {type(reason).__name__}: {reason}") from reason


def _live(found: Storm, name: str, link: str, taste: Taste, think: float, seed: int, enough: threading.Event) -> None:
    try:
        _work(found, name, link, taste, think, seed, enough)
    except BaseException as reason:  # noqa: BLE001 a thread that fails says so to nobody
        found.deaths[name] = reason


def _work(found: Storm, name: str, link: str, taste: Taste, think: float, seed: int, enough: threading.Event) -> None:
    rng = random.Random(f"{seed} {name}")
    labeler = SimulatedLabeler(link, taste, PATIENCE)
    mine = found.acknowledged.setdefault(name, [])
    for answered in labeler.work(think=lambda: think * rng.uniform(0.5, 1.5)):
        mine.append(answered)
        found.took.append((time.monotonic(), answered.took))
        if enough.is_set():
            break
    labeler.close()


def _wait(found: Storm, submissions: int, crew: Sequence[threading.Thread]) -> None:
    while found.total < submissions and any(each.is_alive() for each in crew):
        _refuse_deaths(found)
        time.sleep(0.01)
    _refuse_deaths(found)


@dataclass(frozen=True)
class Damage:
    """What a storm did to the labels. All zero, or the server broke a promise."""

    lost: int  # acknowledged, and not there as it was sent
    doubled: int  # more answers of a task than were asked for, or two by one labeler
    uncounted: int  # tasks whose counts differ from their answers

    @property
    def any(self) -> bool:
        return bool(self.lost or self.doubled or self.uncounted)


def damage(url: str, found: Storm, reviewers: int) -> Damage:
    """Compare what was acknowledged with what the database holds."""
    database = Database.open(url)
    with database.read() as connection:
        rows = reading.all_rankings(connection)
        shown = {each.id: each for each in tasks.read_all(connection)}
        counts = connection.exec_driver_sql(
            "SELECT q.task_id, q.done, (SELECT count(*) FROM rankings r WHERE r.task_id = q.task_id) FROM quotas q "
            "WHERE q.labeler_group = 'train'"
        ).all()
    database.close()
    kept = {}
    for row in rows:
        texts = [candidate.text for candidate in shown[row.task].candidates]
        kept[row.labeler, row.task] = dict(zip(texts, row.ranks or (), strict=True))
    lost = sum(
        kept.get((name, each.task)) != dict(zip(each.responses, each.ranks, strict=True))
        for name, answers in found.acknowledged.items()
        for each in answers
    )
    by_task, by_both = Counter(row.task for row in rows), Counter((row.task, row.labeler) for row in rows)
    doubled = sum(count > reviewers for count in by_task.values()) + sum(count > 1 for count in by_both.values())
    return Damage(lost, doubled, sum(done != answers for _, done, answers in counts))
