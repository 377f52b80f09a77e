"""The labels as files beside the database, kept up to date while the page is open.

The database is the record: an answer is on the disk before it is acknowledged. These files follow it by some seconds,
and are whole at every moment; `heed reward` and `heed sft` read them.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from heed.errors import HeedError
from heed.labeling import exports, sources
from heed.labeling.export_rows import Export
from heed.labeling.store import reading
from heed.labeling.store.database import Database

log = logging.getLogger("heed")
DATABASE = "labels.sqlite"
RANKINGS, HELD_OUT, DEMONSTRATIONS = "rankings.jsonl", "rankings.held-out.jsonl", "demonstrations.jsonl"
EVERY = 10.0  # seconds between looks whether something changed
SHARE = 10.0  # times as long as the last writing took, between looks at least
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
    written, pause = -1, EVERY
    while not over.wait(pause):
        with database.read() as connection:
            last = reading.last_event(connection)
        if last != written:
            began = time.monotonic()
            written = last if _write_in_a_process(database, directory) else written
            pause = max(EVERY, SHARE * (time.monotonic() - began))


def _write_in_a_process(database: Database, directory: Path) -> bool:
    """Write the files in a process of low priority: in a thread the work would hold up every answer meanwhile.

    Returns whether it went well. Ctrl-C, which the terminal sends to all, does not reach it.
    """
    told = {"url": database.engine.url.render_as_string(hide_password=False), "directory": str(directory)}
    command = [sys.executable, "-m", "heed.labeling.files"]
    done = subprocess.run(
        command, input=json.dumps(told), text=True, capture_output=True, start_new_session=True, check=False
    )
    if done.returncode:
        log.warning("the files of labels could not be written: %s", (done.stderr.strip().splitlines() or ["?"])[-1])
    return not done.returncode


def _main() -> None:
    if hasattr(os, "nice"):
        os.nice(10)
    told = json.load(sys.stdin)
    try:
        with closing(Database.open(told["url"])) as database:
            write_files(database, Path(told["directory"]))
    except HeedError as error:
        sys.exit(f"{error.where}: {error.what}")


if __name__ == "__main__":
    _main()
