"""A server that must be found out: it acknowledges first, and commits what came together every now and then."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from heed import cli
from heed.labeling.store.database import Database

EVERY = 0.5  # seconds between commits
HONEST = 30  # writes at first, so that people get in
writes = itertools.count()
lock = threading.RLock()
still_open: dict[int, tuple[Connection, float]] = {}


@contextmanager
def write(self: Database) -> Iterator[Connection]:
    with lock:
        held = still_open.get(id(self))
        if held is None:
            connection = self.engine.connect()
            connection.begin()
            held = still_open[id(self)] = (connection, time.monotonic())
        connection, since = held
        with connection.begin_nested():
            yield connection
        if next(writes) < HONEST or time.monotonic() - since > EVERY:
            connection.commit()
            connection.close()
            del still_open[id(self)]


open_as_it_should_be = Database.open


def open_and_spoil(url: str) -> Database:
    database = open_as_it_should_be(url)
    Database.write = write  # type: ignore[method-assign]
    return database


Database.open = open_and_spoil  # type: ignore[method-assign, assignment]

if __name__ == "__main__":
    sys.exit(cli.main(sys.argv[1:]))
