"""Answers, drafts and the log of events. Every writing function runs inside a transaction of `Database.write`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Table, delete, func, insert, literal, select, union_all
from sqlalchemy.dialects import postgresql, sqlite

from heed.labeling.store.people import Labeler
from heed.labeling.store.tables import (
    ANSWERS,
    demonstrations,
    drafts,
    events,
    exchanges,
    quotas,
    rankings,
    skips,
    tasks,
    votes,
)  # fmt: skip

AnswerTable = Literal["rankings", "demonstrations", "skips"]
TABLES: dict[AnswerTable, Table] = {"rankings": rankings, "demonstrations": demonstrations, "skips": skips}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a labeler said about a task: the table that it is in, and its columns."""

    table: AnswerTable
    task: int
    columns: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Counts:
    """How far a labeler, and everybody of the labeler's group, has come."""

    by_labeler: int
    skipped: int
    done: int
    wanted: int
    seconds_today: float


def record(connection: Connection, labeler: Labeler, answer: Answer, now: float) -> None:
    """Write down an answer, and the event of it."""
    table = TABLES[answer.table]
    row = {"task_id": answer.task, "labeler_id": labeler.id, "submitted": now, **answer.columns}
    connection.execute(insert(table).values(row))
    log(connection, f"{answer.table}: added", now, labeler.id, answer.task, answer.columns)


def given(connection: Connection, labeler: Labeler, task: int) -> Answer | None:
    """The labeler's answer to a task."""
    for name, table in TABLES.items():
        own = select(table).where(table.c.labeler_id == labeler.id, table.c.task_id == task)
        if (row := connection.execute(own).first()) is not None:
            columns = dict(row._mapping)
            for column in ("id", "task_id", "labeler_id", "submitted"):
                del columns[column]
            return Answer(name, task, columns)
    return None


def last_task(connection: Connection, labeler: Labeler, kind: str) -> int | None:
    """The task of this kind that the labeler answered or skipped last."""
    each = [
        select(table.c.task_id, table.c.submitted)
        .join(tasks, tasks.c.id == table.c.task_id)
        .where(table.c.labeler_id == labeler.id, tasks.c.kind == kind)
        for table in ANSWERS
    ]
    every = union_all(*each).subquery()
    last = select(every.c.task_id).order_by(every.c.submitted.desc(), every.c.task_id.desc()).limit(1)
    return connection.execute(last).scalar_one_or_none()


def withdraw(connection: Connection, labeler: Labeler, answer: Answer, now: float) -> None:
    """Take an answer back. The event keeps what it said."""
    table = TABLES[answer.table]
    connection.execute(delete(table).where(table.c.labeler_id == labeler.id, table.c.task_id == answer.task))
    log(connection, f"{answer.table}: withdrawn", now, labeler.id, answer.task, answer.columns)


def log(
    connection: Connection, kind: str, now: float, labeler: int | None, task: int | None, body: Mapping[str, Any]
) -> None:
    """Append an event."""
    row = {"kind": kind, "at": now, "labeler_id": labeler, "task_id": task, "body": dict(body)}
    connection.execute(insert(events).values(row))


def save_draft(connection: Connection, labeler: Labeler, task: int, body: Mapping[str, Any], now: float) -> None:
    """Keep what is there so far; an earlier draft of the task is replaced."""
    values = {"task_id": task, "labeler_id": labeler.id, "body": dict(body), "saved": now}
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    newer = dialect.insert(drafts).values(values)
    kept = {"body": newer.excluded.body, "saved": newer.excluded.saved}
    connection.execute(newer.on_conflict_do_update(index_elements=["task_id", "labeler_id"], set_=kept))


def draft(connection: Connection, labeler: Labeler, task: int) -> dict[str, Any] | None:
    """The draft of a task."""
    own = select(drafts.c.body).where(drafts.c.task_id == task, drafts.c.labeler_id == labeler.id)
    return connection.execute(own).scalar_one_or_none()


def counts(connection: Connection, labeler: Labeler, kind: str, now: float) -> Counts:
    """How far the labeler and the labeler's group have come with tasks of this kind."""
    answered = demonstrations if kind == "write" else rankings
    share = select(func.sum(quotas.c.done), func.sum(quotas.c.wanted))
    share = share.where(quotas.c.labeler_group == labeler.group, quotas.c.kind == kind)
    done, wanted = connection.execute(share).one()
    by_labeler, seconds = connection.execute(
        select(
            func.count(),
            func.sum(answered.c.seconds).filter(answered.c.submitted > literal(now - 86_400.0)),
        )
        .join(tasks, tasks.c.id == answered.c.task_id)
        .where(answered.c.labeler_id == labeler.id, tasks.c.kind == kind)
    ).one()
    skipped = select(func.count()).select_from(skips).join(tasks, tasks.c.id == skips.c.task_id)
    skipped = skipped.where(skips.c.labeler_id == labeler.id, tasks.c.kind == kind)
    return Counts(by_labeler, connection.execute(skipped).scalar_one(), done or 0, wanted or 0, seconds or 0.0)


def keep_exchange(connection: Connection, labeler: Labeler, columns: Mapping[str, Any], now: float) -> int:
    """Write down two models' answers to a conversation; returns the exchange's number."""
    row = {"labeler_id": labeler.id, "asked": now, **columns}
    number: int = connection.execute(insert(exchanges).values(row).returning(exchanges.c.id)).scalar_one()
    return number


def vote(
    connection: Connection, labeler: Labeler, exchange: int, preferred: str, seconds: float, now: float
) -> list[str] | None:
    """Vote on one's own exchange, once or the same again; returns its models as shown, None for any other."""
    own = select(exchanges.c.models).where(exchanges.c.id == exchange, exchanges.c.labeler_id == labeler.id)
    models = connection.execute(own).scalar_one_or_none()
    before = connection.execute(select(votes.c.preferred).where(votes.c.exchange_id == exchange)).scalar_one_or_none()
    if models is None or before not in (None, preferred):
        return None
    if before is None:
        columns = {"exchange_id": exchange, "preferred": preferred, "seconds": seconds}
        connection.execute(insert(votes).values(submitted=now, **columns))
        log(connection, "votes: added", now, labeler.id, None, columns)
    return list(models)
