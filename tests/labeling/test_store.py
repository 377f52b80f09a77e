"""The database: migrations, newer schemas, what may not be changed, one place for SQL."""

from __future__ import annotations

import ast
import json
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from heed.errors import ConfigError, DataError
from heed.labeling.store import answers, people, reading, tables, tasks
from heed.labeling.store.database import NEWEST, Database, migrate, sqlite_url

from .conftest import Clock, room, task

HOUSE = Path(__file__).parents[2] / "heed"


def test_migrations_lead_to_the_schema_of_tables(database: Database) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []
        connection.execute(text("ALTER TABLE skips ADD COLUMN forgotten INTEGER"))
        assert compare_metadata(context, tables.metadata) != []  # so the comparison can fail


def first_schema(url: str) -> None:
    """A database as the first version left it, with 1,000 rankings by two people of 500 tasks."""
    database = Database.__new__(Database)
    from heed.labeling.store.database import _engine

    Database.__init__(database, _engine(url))
    with database.write() as connection:
        migrate(connection, "0001")
        connection.execute(text("INSERT INTO facts VALUES ('salt', '\"5a17\"')"))
        connection.execute(text("INSERT INTO models VALUES (1, 'sft')"))
        for labeler in (1, 2):
            connection.execute(
                text("INSERT INTO labelers VALUES (:id, :name, 'train', :owner, 'admitted', 0)"),
                {"id": labeler, "name": f"person {labeler}", "owner": labeler == 1},
            )
        for number in range(1, 501):
            prompt = json.dumps([["user", f"prompt {number}"]])
            connection.execute(
                text(
                    "INSERT INTO tasks (id, key, kind, prompt, source, prompt_group, gold_known) "
                    "VALUES (:id, :key, 'rank', :prompt, '\"\"', '\"\"', :no)"
                ),
                {"id": number, "key": f"k{number}", "prompt": prompt, "no": False},
            )
            for place in (0, 1, 2):
                connection.execute(
                    text("INSERT INTO candidates VALUES (:task, :place, :text, :yes, 1)"),
                    {"task": number, "place": place, "text": json.dumps(f"r{number}.{place}"), "yes": True},
                )
            for labeler in (1, 2):
                ranks = [1 + (number + labeler + place) % 3 for place in range(3)]
                connection.execute(
                    text(
                        "INSERT INTO rankings (task_id, labeler_id, mode, ranks, none_acceptable, shown, seconds, "
                        "submitted) VALUES (:task, :labeler, 'rank', :ranks, :no, '[2, 0, 1]', :seconds, 5)"
                    ),
                    {
                        "task": number,
                        "labeler": labeler,
                        "ranks": json.dumps(ranks),
                        "no": False,
                        "seconds": number / 4,
                    },
                )
    database.close()


def test_a_database_of_the_first_schema_opens_with_nothing_lost(url: str) -> None:
    first_schema(url)
    database = Database.open(url)
    with database.read() as connection:
        rankings = reading.all_rankings(connection)
        shown = {each.id: each for each in tasks.read_many(connection)}
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == NEWEST
    assert len(rankings) == 1000
    for index, row in enumerate(rankings):
        number, labeler = index // 2 + 1, index % 2 + 1
        assert (row.task, row.labeler, row.note) == (number, f"person {labeler}", "")
        assert row.ranks == tuple(1 + (number + labeler + place) % 3 for place in range(3))
        assert row.seconds == number / 4
        assert [c.text for c in shown[number].candidates] == [f"r{number}.{place}" for place in range(3)]
    database.close()


def test_a_newer_schema_is_refused_in_two_lines_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    Database.open(sqlite_url(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    before = path.read_bytes()
    with pytest.raises(DataError) as refused:
        Database.open(sqlite_url(path))
    where, hint = str(refused.value).splitlines()
    assert where == f"{path}: its schema is 9999, this heed knows {NEWEST} at most"
    assert hint.startswith("hint: update heed")
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_and_a_database_of_something_else_are_refused(tmp_path: Path) -> None:
    text_file, other = tmp_path / "notes.sqlite", tmp_path / "other.sqlite"
    text_file.write_text("dear diary " * 100)
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE songs (name TEXT)")
    for path in (text_file, other):
        before = path.read_bytes()
        with pytest.raises(DataError):
            Database.open(sqlite_url(path))
        assert path.read_bytes() == before


@pytest.mark.parametrize("url", ["mysql://host/name", "nonsense", "postgresql://127.0.0.1:1/none"])
def test_what_is_no_url_of_a_database_is_told(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Database.open(url)
    assert len(str(refused.value).splitlines()) == 2


def test_sqlite_writes_every_commit_to_the_disk(sqlite: Database) -> None:
    with sqlite.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


@pytest.mark.parametrize("change", ["UPDATE events SET kind = 'nothing'", "DELETE FROM events"])
def test_events_are_append_only(database: Database, change: str) -> None:
    with database.write() as connection:
        answers.log(connection, "something", 1.0, None, None, {})
    with pytest.raises(DBAPIError, match="append-only"), database.write() as connection:
        connection.execute(text(change))
    with database.read() as connection:
        assert connection.execute(text("SELECT kind FROM events")).scalars().all() == ["something"]


def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError), database.write() as connection:
        people.welcome(connection, "anna", "train", "admitted", 0.0)
        raise RuntimeError
    with database.read() as connection:
        assert people.everybody(connection) == []


def test_texts_come_back_as_they_were(database: Database, clock: Clock) -> None:
    hostile = "\U0001f469\u200d\U0001f680 nul \x00, right to left \u202e, accent \u0301, 'quote\"; DROP TABLE tasks; --"
    new = task(1)
    new = tasks.NewTask("rank", new.prompt, (tasks.Candidate(hostile, False, "sft"), *new.candidates), hostile)
    here = room(database, [new])
    with here.database.read() as connection:
        (stored,) = tasks.read_many(connection)
    assert stored.candidates == new.candidates
    assert stored.source == hostile


def test_a_task_is_added_once(database: Database) -> None:
    with database.write() as connection:
        assert len(tasks.add(connection, [task(1), task(2), task(1)])) == 2
        assert len(tasks.add(connection, [task(2), task(3)])) == 1
        assert [len(each.candidates) for each in tasks.read_many(connection)] == [4, 4, 4]


def test_sql_is_in_the_store_and_nowhere_else() -> None:
    for path in HOUSE.rglob("*.py"):
        if "store" in path.relative_to(HOUSE).parts or path == HOUSE / "labeling" / "sql.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sqlalchemy"):
                assert {alias.name for alias in node.names} <= {"Connection"}, f"{path} speaks SQL"
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith(("sqlalchemy", "sqlite3")) for alias in node.names), path


def test_no_statement_is_built_from_text() -> None:
    """SQL is made of SQLAlchemy's expressions, or is a literal: nothing that came from outside is ever in its text."""
    for path in (HOUSE / "labeling" / "store").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "text":
                assert isinstance(node.args[0], ast.Constant), f"{path}:{node.lineno}"
