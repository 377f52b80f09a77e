"""A database of labels, on SQLite and on a throwaway PostgreSQL; a site over it; people who come in."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from starlette.testclient import TestClient

from heed.labeling import assignment
from heed.labeling.app import application
from heed.labeling.assignment import Policy
from heed.labeling.desk import Desk
from heed.labeling.doors import Site
from heed.labeling.messages import Judged, Submission, Task
from heed.labeling.security import Sessions
from heed.labeling.store import people, tasks
from heed.labeling.store.database import Database, sqlite_url
from heed.labeling.store.people import Labeler
from heed.labeling.store.tasks import Candidate, NewTask
from heed.records import Turn

NO_POSTGRES = "no PostgreSQL server: `apt-get install postgresql`"


class Clock:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL server that lives for the tests, run by the user `postgres` where we are root."""
    programs = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
    if programs is None and (initdb := shutil.which("initdb")):
        programs = Path(initdb).parent
    if programs is None:
        if os.environ.get("CI"):
            raise RuntimeError(NO_POSTGRES)
        pytest.skip(NO_POSTGRES)
    place = Path(tempfile.mkdtemp(prefix="heed-postgres-"))
    user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    if user:
        os.chown(place, pwd.getpwnam("postgres").pw_uid, -1)
    port, cluster = free_port(), place / "cluster"
    options = f"-p {port} -k {place} -c listen_addresses=127.0.0.1 -c fsync=off"  # it is never killed
    control = [*user, f"{programs}/pg_ctl", "-D", str(cluster), "-l", str(place / "log")]
    make = [*user, f"{programs}/initdb", "-D", str(cluster), "-U", "heed", "-A", "trust", "--no-sync"]
    try:
        subprocess.run(make, check=True, capture_output=True, cwd="/")
        subprocess.run([*control, "-w", "-o", options, "start"], check=True, stdout=subprocess.DEVNULL, cwd="/")
        yield f"postgresql+psycopg://heed@127.0.0.1:{port}"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=False, stdout=subprocess.DEVNULL, cwd="/")
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database of either kind."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "labels.sqlite")
    server: str = request.getfixturevalue("postgres")
    return empty_database(server)


def empty_database(server: str) -> str:
    """A schema of its own in the one database: PostgreSQL copies 7 MB for every new database."""
    name = f"labels_{os.urandom(6).hex()}"
    engine = create_engine(f"{server}/postgres")
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
    engine.dispose()
    return f"{server}/postgres?options=-csearch_path%3D{name}"


@pytest.fixture
def database(request: pytest.FixtureRequest, url: str, clock: Clock) -> Iterator[Database]:
    """An empty database of labels, once on each kind of server."""
    if url.startswith("sqlite"):
        yield request.getfixturevalue("sqlite")
        return
    opened = Database.open(url, clock)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that went through the migrations once, to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "labels.sqlite"
    Database.open(sqlite_url(path)).close()
    return path


@pytest.fixture
def sqlite(tmp_path: Path, clock: Clock, migrated: Path) -> Iterator[Database]:
    """An empty database of labels on SQLite, for what has nothing to do with the kind of database."""
    shutil.copy(migrated, tmp_path / "labels.sqlite")
    opened = Database.open(sqlite_url(tmp_path / "labels.sqlite"), clock)
    yield opened
    opened.close()


def task(number: int, responses: int = 4, **more: object) -> NewTask:
    """A task whose responses and models can be told from their texts."""
    candidates = tuple(Candidate(f"response {number}.{k}", True, f"model-{k}") for k in range(responses))
    kind = "pairwise" if responses == 2 else "rank" if responses else "write"
    values: dict[str, object] = {"kind": kind, "prompt": (Turn("user", f"prompt {number}"),), "candidates": candidates}
    return NewTask(**(values | more))  # type: ignore[arg-type]


@dataclass
class Room:
    """A database with tasks, and a desk at which people ask for them."""

    database: Database
    desk: Desk

    def welcome(self, name: str, group: str = "train", status: str = "admitted", owner: bool = False) -> Labeler:
        with self.database.write() as connection:
            return people.welcome(connection, name, group, status, 0.0, owner)  # type: ignore[arg-type]

    def invite(self, labeler: Labeler) -> str:
        with self.database.write() as connection:
            return people.invite(connection, labeler, self.database.clock())

    def answer(self, labeler: Labeler, ranks: list[int] | None = None) -> Task | None:
        """Take the next task and rank it; returns it, or None where there is none."""
        found = self.desk.turnout(labeler.id).task
        if found is not None:
            given = ranks or list(range(1, len(found.cards) + 1))
            self.desk.rank(labeler.id, Submission(task=found.task, judged=Judged(ranks=given), seconds=7.5))
        return found


def room(database: Database, new: list[NewTask], **policy: object) -> Room:
    """A room with these tasks."""
    rules = Policy(**policy)  # type: ignore[arg-type]
    with database.write() as connection:
        tasks.add(connection, new)
        assignment.ask(connection, rules, ["train", "held_out"])
    return Room(database, Desk(database, rules))


ORIGIN = "http://127.0.0.1"


def stranger(room: Room, **site: object) -> TestClient:
    """A browser that has not signed in."""
    values: dict[str, object] = {"desk": room.desk, "sessions": Sessions(b"k" * 64), "hosts": ("127.0.0.1",)}
    app = application(Site(**(values | site)))  # type: ignore[arg-type]
    return TestClient(app, base_url=ORIGIN, follow_redirects=False, headers={"Origin": ORIGIN})


def signed_in(room: Room, name: str = "anna", owner: bool = False, **site: object) -> TestClient:
    """A browser that came in by a link, and sends the form token as the page does."""
    browser = stranger(room, **site)
    token = room.invite(room.welcome(name, owner=owner))
    assert browser.get(f"/enter?token={token}").status_code == 303
    browser.headers["X-Form-Token"] = browser.get("/api/session").json()["form_token"]
    return browser


def write_candidates(path: Path, count: int, responses: int = 4) -> Path:
    """A file as `heed sample` writes it."""
    rows = [
        {
            "prompt": f"prompt {number}",
            "responses": [f"response {number}.{k} " + "long " * ((number * 7 + k * 3) % 11) for k in range(responses)],
            "finished": [True] * responses,
            "model": "runs/sft",
        }
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Wait until something is so; a minute at most."""
    import time

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, "waited for a minute"
            time.sleep(0.02)

    return wait
