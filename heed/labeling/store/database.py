"""Opens the labels' database (SQLite in a file, or PostgreSQL by URL), and begins its transactions.

What a transaction of `write` has done is on the disk when its block ends, or has not happened.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, OperationalError

from heed.errors import ConfigError, DataError
from heed.labeling.store import tables

NEWEST = "0003"
"""Revision of `migrations/versions` that `tables.py` describes."""

MIGRATIONS = Path(__file__).parent / "migrations"
POOL = 40  # connections, as many as the server has threads


class Database:
    """A database of labels at the newest schema. `clock` gives the time in seconds since 1970."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        self.engine = engine
        self.clock = clock
        # SQLite has one writer. Waiting for a lock is fair and wakes at once; SQLite's own waiting sleeps and polls.
        self._writer = threading.Lock() if engine.dialect.name == "sqlite" else nullcontext()

    @classmethod
    def open(cls, url: str, clock: Callable[[], float] = time.time) -> Database:
        """The database at an URL of SQLAlchemy, created or brought to the newest schema first.

        Raises ConfigError where it cannot be reached, DataError where its schema is newer than this program.
        """
        try:
            engine = _engine(url)
            database = cls(engine, clock)
            with database.write() as connection:
                _bring_to_newest(connection)
            if engine.dialect.name == "sqlite":
                _keep_a_write_ahead_log(engine)
        except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
            raise ConfigError("--database", f"cannot use it: {error}", _URLS) from error
        except OperationalError as error:
            raise ConfigError("--database", f"cannot open it: {_first_line(error)}", _URLS) from error
        except DatabaseError as error:
            where = make_url(url).database or url
            raise DataError(where, f"is no database of labels: {_first_line(error)}", "name another file") from error
        return database

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is committed, to the disk, when the block ends, and rolled back when it raises."""
        with self._writer, self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state and changes nothing."""
        with self.engine.connect().execution_options(reading=True) as connection:
            yield connection

    def close(self) -> None:
        """Let go of every connection."""
        self.engine.dispose()


_URLS = "sqlite:///labels.sqlite, or postgresql+psycopg://user:password@host/name with `pip install 'heed[postgres]'`"


def sqlite_url(path: Path) -> str:
    """The URL of a database in a file."""
    return f"sqlite:///{path}"


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise ArgumentError(f"{parsed.get_backend_name()} is neither SQLite nor PostgreSQL")
    engine = create_engine(parsed, pool_size=POOL, max_overflow=0, pool_pre_ping=parsed.get_backend_name() != "sqlite")
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, record: object) -> None:
    connection.isolation_level = None  # `_begin_sqlite` begins; the driver would begin too late
    for pragma in ("busy_timeout = 10000", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _keep_a_write_ahead_log(engine: Engine) -> None:
    """Readers then do not wait for the writer. The file remembers it; a file that is not ours was refused before."""
    connection = engine.raw_connection()
    connection.cursor().execute("PRAGMA journal_mode = WAL")
    connection.close()


def _begin_sqlite(connection: Connection) -> None:
    """A writer takes the lock at once: a reader that becomes a writer may find that somebody else was faster."""
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _bring_to_newest(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":  # two programs that start together must not both create tables
        connection.execute(text("SELECT pg_advisory_xact_lock(7263)"))
    found = _revision(connection)
    if found == NEWEST:
        return
    where = connection.engine.url.database or "the database"
    if found is not None and found > NEWEST:
        raise DataError(
            where, f"its schema is {found}, this heed knows {NEWEST} at most", "update heed, then try again"
        )
    if found is None and inspect(connection).get_table_names():
        raise DataError(where, "holds other tables than labels", "name a database of its own with --database")
    migrate(connection, NEWEST)
    if found is None:
        salt = insert(tables.facts).values(name="salt", value=secrets.token_hex(16))
        connection.execute(salt)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
    return revision


def migrate(connection: Connection, revision: str) -> None:
    """Bring the schema to a revision, in the connection's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def salt(connection: Connection) -> str:
    """What the labelers' pseudonyms in exports are hashed with."""
    return str(connection.execute(select(tables.facts.c.value).where(tables.facts.c.name == "salt")).scalar_one())


def _first_line(error: DatabaseError) -> str:
    return str(error.orig).strip().partition("\n")[0]
