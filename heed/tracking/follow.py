"""Trackers follow a run's files: what `metrics.jsonl` holds is what they show, under the same names.

Which rows a tracker has got stands in `tracked.json`, so that a run that was stopped and goes on continues the same run
there, without a gap or a step twice, and a tracker that is asked for later gets everything from the first step.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heed.errors import ConfigError
from heed.tracking.stores import TRACKERS, Row, Tracker

MEMORY = "tracked.json"
NUMBERS, SAMPLES = ("metrics.jsonl", "timings.jsonl"), "samples.jsonl"

log = logging.getLogger("heed")


def require(names: Sequence[str]) -> None:
    """Raises ConfigError where the library of a tracker is not installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ConfigError("--track", f"{name} is not installed", f"pip install 'heed[{name}]', or leave it out")


class Trackers:
    """The trackers that a run was asked for, none as a rule. A tracker that fails is left behind; the run goes on."""

    def __init__(self, run: Path, names: Sequence[str], config: Mapping[str, Any]) -> None:
        self._run, self._config = run, config
        self._memory: dict[str, dict[str, Any]] = _read(run / MEMORY) if names else {}
        self._open: dict[str, Tracker | None] = dict.fromkeys(names)
        self._read = {name: Unread(run / name) for name in (*NUMBERS, SAMPLES)} if names else {}
        self._rows = dict.fromkeys(self._read, 0)

    def follow(self) -> None:
        """Hand over what was written since the last time: whole steps."""
        if not self._open:
            return
        fresh = {name: unread.rows() for name, unread in self._read.items()}
        for name in list(self._open):
            try:
                self._hand_over(name, fresh)
            except Exception as error:  # noqa: BLE001 - whatever a tracker's library meets, the run is worth more
                self._leave(name, error)
        self._rows = {name: count + len(fresh[name]) for name, count in self._rows.items()}

    def close(self) -> None:
        """Hand over the rest and close."""
        self.follow()
        for name, tracker in list(self._open.items()):
            try:
                if tracker is not None:
                    tracker.close()
                    log.info("tracked  %s", tracker.place)
            except Exception as error:  # noqa: BLE001 - as above
                self._leave(name, error)
        self._open = {}

    def _hand_over(self, name: str, fresh: Mapping[str, list[Row]]) -> None:
        memory = self._memory.setdefault(name, {"id": secrets.token_hex(4), "last": None, SAMPLES: 0})
        tracker = self._open[name] or self._opened(name, memory)
        had = self._rows[SAMPLES]
        numbers = [row for file in NUMBERS for row in fresh[file] if _is_after(row, tracker.last)]
        samples = [
            row
            for i, row in enumerate(fresh[SAMPLES], start=had)
            if i >= memory[SAMPLES] or _is_after(row, tracker.last)
        ]
        for step in sorted({row["step"] for row in (*numbers, *samples)}):
            told = {key: value for row in numbers if row["step"] == step for key, value in row.items()}
            figures = {key: value for key, value in told.items() if key != "step" and value is not None}
            tracker.log(step, figures, [row for row in samples if row["step"] == step])
            memory["last"] = step if memory["last"] is None else max(memory["last"], step)
        memory[SAMPLES] = max(memory[SAMPLES], had + len(fresh[SAMPLES]))
        _write(self._run / MEMORY, self._memory)

    def _opened(self, name: str, memory: Mapping[str, Any]) -> Tracker:
        title = self._run.resolve().name
        tracker = TRACKERS[name](self._run, title, memory["id"], self._config, memory["last"])
        self._open[name] = tracker
        return tracker

    def _leave(self, name: str, error: Exception) -> None:
        told = f"{type(error).__name__}: {error}".partition("\n")[0]
        log.warning("%s failed (%s) and gets no more rows; metrics.jsonl has them all", name, told)
        self._open.pop(name, None)


def _is_after(row: Row, last: int | None) -> bool:
    return last is None or row["step"] > last


class Unread:
    """The lines of a file of rows that were not read yet."""

    def __init__(self, path: Path) -> None:
        self._path, self._place = path, 0

    def rows(self) -> list[Row]:
        """Rows that were appended since the last time."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._place)
            whole = file.read()
        self._place += len(whole)
        return [json.loads(line) for line in whole.splitlines()]


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _write(path: Path, value: object) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)
