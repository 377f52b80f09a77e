"""`heed loop RUN`: what people have ranked becomes a better policy, whose answers become their next tasks.

heed loop runs/demo/sample --after 40 …      waits for rankings, round after round; `heed label` serves meanwhile
heed loop recipes/pocket/my-taste.yaml --once
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from heed import config
from heed.errors import ConfigError
from heed.flows.going_on import walk
from heed.flows.rounds import ABOUT, DONE, Round, directory, read_json
from heed.labeling.files import place_of
from heed.labeling.queue import open_labels
from heed.labeling.store import reading, tasks
from heed.labeling.store.database import Database
from heed.settings.loop import LoopSettings
from heed.stages import ppo
from heed.training.files import write_text
from heed.training.lock import Lock

log = logging.getLogger("heed")
OF_A_ROUND = re.compile(r"(^|/)round-\d+/ppo$")


def run(settings: LoopSettings) -> Path:
    """Rounds until there are enough, or Ctrl-C; returns the directory of the last. A stopped one goes on first."""
    root = Path(settings.output).expanduser() if settings.output else place_of(settings.run) / "loop"
    with closing(open_labels(settings.run, settings.database)) as database:
        model = settings.model or first_model(database)
        ppo.check(settings.ppo.model_copy(update={"model": model, "reward_model": "reward"}))
        with held(root):
            write_text(root / "config.yaml", config.dump(settings))
            last, done = finished_rounds(root), 0
            while True:
                if not (directory(root, last + 1) / ABOUT).exists():
                    wait(settings, database, root, last)
                start = model if settings.policy == "first" or not last else str(directory(root, last) / "ppo")
                go_round(Round(settings, database, root, last + 1, model, start))
                last, done = last + 1, done + 1
                if settings.once or done == settings.rounds:
                    tell(settings, model, directory(root, last))
                    return directory(root, last)


@contextmanager
def held(root: Path) -> Iterator[None]:
    """The directory of the rounds, for one loop alone."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = Lock(root)
    except OSError as error:
        raise ConfigError("output", f"cannot write {root}: {error.strerror}", "choose another directory") from None
    try:
        yield
    finally:
        lock.release()


def first_model(database: Database) -> str:
    """The model whose answers people ranked first: none that a round has made."""
    with database.read() as connection:
        named = [name for name in tasks.model_names(connection) if name and not OF_A_ROUND.search(name)]
    if len(named) != 1:
        told = f"the answers are by {len(named)} models" if named else "the labels do not say who answered"
        raise ConfigError("model", told, "name the SFT model: --model RUN")
    return named[0]


def finished_rounds(root: Path) -> int:
    """How many rounds are done."""
    number = 0
    while (directory(root, number + 1) / DONE).exists():
        number += 1
    return number


def new_rankings(database: Database, root: Path, last: int) -> int:
    """Rankings since the last round."""
    used = int(read_json(directory(root, last) / DONE)["rankings"]["counted"]) if last else 0
    with database.read() as connection:
        return reading.how_many(connection)[1] - used


def wait(settings: LoopSettings, database: Database, root: Path, last: int) -> None:
    """Until there are `after` new rankings; with `once` there must be some.

    Raises ConfigError where there are none.
    """
    new = new_rankings(database, root, last)
    if settings.once and not new:
        since = f" since round {last}" if last else ""
        raise ConfigError(settings.run, f"nothing was ranked{since}", f"rank some: heed label {settings.run}")
    told = -1
    while not settings.once and new < settings.after:
        if new != told:
            log.info("waiting for rankings: %d of %d new ones", new, settings.after)
        told = new
        time.sleep(settings.look_every)
        new = new_rankings(database, root, last)
    log.info("%d new rankings", new)


def go_round(this: Round) -> None:
    """Every step of a round that is not done yet."""
    this.path.mkdir(exist_ok=True)
    walk(this.steps(), f"round {this.number}, ", f"round {this.number}")


def tell(settings: LoopSettings, model: str, path: Path) -> None:
    """What came out, and what to do next."""
    about = read_json(path / DONE)
    queued = sum(about["queued"].values())
    accuracy = about["accuracy"]["estimate"]
    log.info("round  %d: %d rankings, reward model right on %.0f %% of held-out pairs, %d new tasks",
             about["round"], about["rankings"]["rows"], 100 * (accuracy or 0), queued)  # fmt: skip
    log.info("next   heed chat %s %s", model, about["policy"])
    log.info("next   heed label %s", settings.run)
    log.info("next   heed lineage %s", about["policy"])
