"""More tasks into labels that exist: what a model should hear about next. A page that is open serves them at once."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from heed.errors import ConfigError
from heed.labeling import assignment, sources
from heed.labeling.assignment import Policy
from heed.labeling.files import DATABASE, place_of
from heed.labeling.messages import Mode
from heed.labeling.store import tasks
from heed.labeling.store.database import Database, sqlite_url
from heed.labeling.store.people import LabelerGroup

GROUPS: tuple[LabelerGroup, ...] = ("train", "held_out")


def open_labels(where: str, database: str = "") -> Database:
    """The labels of what `heed label` was started with, or those at an URL.

    Raises ConfigError where there are none.
    """
    if not database and "://" in where:
        database = where
    if not database:
        place = place_of(where)
        if not (place / DATABASE).exists():
            raise ConfigError(where, f"there are no labels in {place}", f"label first: heed label {where}")
        database = sqlite_url(place / DATABASE)
    return Database.open(database)


def queue(where: str, file: Path, mode: Mode = "rank", policy: Policy | None = None) -> int:
    """Add the tasks of a file to existing labels, and ask for answers to them; returns how many were not there yet."""
    with closing(open_labels(where)) as database:
        return add(database, [file], policy or Policy(mode=mode))


def add(database: Database, files: list[Path], policy: Policy) -> int:
    """The same where the labels are open already."""
    new = [task for file in files for task in sources.read_tasks([str(file)], policy.mode, policy.seed)]
    with database.write() as connection:
        added = tasks.add(connection, new)
        assignment.ask(connection, policy, GROUPS, added)
    return len(added)
