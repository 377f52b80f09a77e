"""The tables of the labels' database. `migrations/` brings any earlier schema to this one; a test compares them.

Texts of people and models are JSON columns: PostgreSQL takes no NUL character in plain text, and models write them.
Times are seconds since 1970.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Computed,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

PARTLY_DONE, UNTOUCHED, FULL = 0, 1, 2
QUEUE = f"CASE WHEN taken >= wanted THEN {FULL} WHEN done > 0 THEN {PARTLY_DONE} ELSE {UNTOUCHED} END"


def _task() -> Column[int]:
    return Column("task_id", ForeignKey("tasks.id"), nullable=False)


def _labeler() -> Column[int]:
    return Column("labeler_id", ForeignKey("labelers.id"), nullable=False)


facts = Table(  # what belongs to this database as a whole: the salt of the labelers' pseudonyms
    "facts",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", JSON, nullable=False),
)

labelers = Table(
    "labelers",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("labeler_group", String, nullable=False),  # train, held_out
    Column("owner", Boolean, nullable=False),
    Column("status", String, nullable=False),  # screening, admitted, refused
    Column("created", Float, nullable=False),
)

invites = Table(  # one-time tokens, of which only a scrypt hash is kept
    "invites",
    metadata,
    Column("id", Integer, primary_key=True),
    _labeler(),
    Column("salt", String, nullable=False),
    Column("hash", String, nullable=False),
    Column("created", Float, nullable=False),
    Column("spent", Float),
)

models = Table(
    "models",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String, nullable=False, unique=True),
)

tasks = Table(
    "tasks",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String, nullable=False, unique=True),  # hash of kind, prompt and candidates
    Column("kind", String, nullable=False),  # rank, pairwise, write
    Column("prompt", JSON, nullable=False),
    Column("source", JSON, nullable=False),
    Column("prompt_group", JSON, nullable=False),
    Column("gold", JSON(none_as_null=True)),  # ranks that a gold question expects
    Column("gold_known", Boolean, nullable=False),
    Index(None, "gold_known", "kind"),
)

candidates = Table(
    "candidates",
    metadata,
    Column("task_id", ForeignKey("tasks.id"), primary_key=True),
    Column("place", Integer, primary_key=True, autoincrement=False),
    Column("text", JSON, nullable=False),
    Column("finished", Boolean, nullable=False),
    Column("model_id", ForeignKey("models.id"), nullable=False),
)

quotas = Table(  # how many answers a task wants from a group of labelers; gold questions have none: all get them
    "quotas",
    metadata,
    Column("task_id", ForeignKey("tasks.id"), primary_key=True),
    Column("labeler_group", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("wanted", Integer, nullable=False),
    Column("done", Integer, nullable=False),  # answers
    Column("taken", Integer, nullable=False),  # answers and leases
    Column("queue", Integer, Computed(QUEUE, persisted=True), nullable=False),
    Column("turn", Integer, nullable=False, server_default="0"),  # among tasks of the same queue the lowest is first
    Index(None, "labeler_group", "kind", "queue", "turn", "task_id"),
)

leases = Table(
    "leases",
    metadata,
    Column("id", Integer, primary_key=True),
    _task(),
    _labeler(),
    Column("labeler_group", String, nullable=False),
    Column("shown", JSON, nullable=False),  # shown[slot] is a place among the candidates
    Column("expires", Float, nullable=False, index=True),
    UniqueConstraint("task_id", "labeler_id"),
    Index(None, "labeler_id"),
)

drafts = Table(
    "drafts",
    metadata,
    Column("task_id", ForeignKey("tasks.id"), primary_key=True),
    Column("labeler_id", ForeignKey("labelers.id"), primary_key=True),
    Column("body", JSON, nullable=False),
    Column("saved", Float, nullable=False),
)

rankings = Table(  # lists over responses are in the order of the candidates, not in the shown one
    "rankings",
    metadata,
    Column("id", Integer, primary_key=True),
    _task(),
    _labeler(),
    Column("mode", String, nullable=False),
    Column("shown", JSON, nullable=False),
    Column("ranks", JSON(none_as_null=True)),
    Column("likert", JSON(none_as_null=True)),
    Column("flags", JSON(none_as_null=True)),
    Column("none_acceptable", Boolean, nullable=False),
    Column("note", JSON, nullable=False, server_default='""'),
    Column("seconds", Float, nullable=False),
    Column("submitted", Float, nullable=False),
    UniqueConstraint("task_id", "labeler_id"),
    Index(None, "labeler_id"),
)

demonstrations = Table(
    "demonstrations",
    metadata,
    Column("id", Integer, primary_key=True),
    _task(),
    _labeler(),
    Column("text", JSON, nullable=False),
    Column("shown", JSON, nullable=False),
    Column("edited", Integer),  # place of the candidate that it was made from
    Column("seconds", Float, nullable=False),
    Column("submitted", Float, nullable=False),
    UniqueConstraint("task_id", "labeler_id"),
    Index(None, "labeler_id"),
)

skips = Table(
    "skips",
    metadata,
    Column("id", Integer, primary_key=True),
    _task(),
    _labeler(),
    Column("shown", JSON, nullable=False),
    Column("reason", String, nullable=False),
    Column("note", JSON, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("submitted", Float, nullable=False),
    UniqueConstraint("task_id", "labeler_id"),
    Index(None, "labeler_id"),
)

exchanges = Table(  # chat and rate: two models' answers to one conversation, in the order in which they were shown
    "exchanges",
    metadata,
    Column("id", Integer, primary_key=True),
    _labeler(),
    Column("prompt", JSON, nullable=False),
    Column("responses", JSON, nullable=False),
    Column("finished", JSON, nullable=False),
    Column("models", JSON, nullable=False),
    Column("asked", Float, nullable=False),
)

votes = Table(
    "votes",
    metadata,
    Column("exchange_id", ForeignKey("exchanges.id"), primary_key=True),
    Column("preferred", String, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("submitted", Float, nullable=False),
)

events = Table(  # append-only: triggers refuse to change or delete a row
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("kind", String, nullable=False),
    Column("labeler_id", ForeignKey("labelers.id")),
    Column("task_id", ForeignKey("tasks.id")),
    Column("body", JSON, nullable=False),
)

ANSWERS = (rankings, demonstrations, skips)
"""Whoever has a row about a task in one of these has done with it."""
