"""The labels as files beside the database, kept up to date while the page is open.

The database is the record: an answer is on the disk before it is acknowledged. These files follow it by some seconds,
and are whole at every moment; `heed reward` and `heed sft` read them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from heed.labeling import exports, sources
from heed.labeling.export_rows import Export
from heed.labeling.store import reading
from heed.labeling.store.database import Database

DATABASE = "labels.sqlite"
RANKINGS, HELD_OUT, DEMONSTRATIONS = "rankings.jsonl", "rankings.held-out.jsonl", "demonstrations.jsonl"
EVERY = 10.0  # seconds between looks whether something changed
FILES = {
    RANKINGS: Export(),
    HELD_OUT: Export(group="held_out"),
    DEMONSTRATIONS: Export(format="demonstrations"),
}


def place_of(source: str) -> Path:
    """The directory of the labels of a source: a run's own, or one beside the file that is labeled."""
    if (Path(source).expanduser() / DATABASE).exists():
        return Path(source).expanduser()
    first = Path(sources.file_of(source)).expanduser()
    if (first.parent / "run.json").exists():
        return first.parent
    beside = first.parent if first.exists() else Path()  # a data set of the hub has no place here
    return beside / f"{first.name.partition('.')[0] or first.name}.labels"


def write_files(database: Database, directory: Path) -> dict[str, int]:
    """Write every file that has a row or is there already; returns how many rows each has."""
    rows = {}
    for name, export in FILES.items():
        content, about = exports.made(database, export)
        path = directory / name
        if about["rows"] or path.exists():
            exports.place(path, content, about)
            rows[name] = int(about["rows"])
    return rows


@contextmanager
def kept_up_to_date(database: Database, directory: Path) -> Iterator[None]:
    """Write the files now and then while the block runs, whenever something changed, and once more at its end."""
    over = threading.Event()
    follower = threading.Thread(target=_follow, args=(database, directory, over), daemon=True)
    follower.start()
    try:
        yield
    finally:
        over.set()
        follower.join()
        write_files(database, directory)


def _follow(database: Database, directory: Path, over: threading.Event) -> None:
    written = -1
    while not over.wait(EVERY):
        with database.read() as connection:
            last = reading.last_event(connection)
        if last != written:
            write_files(database, directory)
            written = last
