"""The first schema: tasks, labelers, who holds what, answers, the log of events."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

FULL_QUEUE = "CASE WHEN taken >= wanted THEN 2 WHEN done > 0 THEN 0 ELSE 1 END"

SQLITE_TRIGGERS = (
    "CREATE TRIGGER events_stay BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'events are append-only'); END",
    "CREATE TRIGGER events_last BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'events are append-only'); END",
)
POSTGRES_TRIGGERS = (
    "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'events are append-only'; END $$",
    "CREATE TRIGGER events_stay BEFORE UPDATE OR DELETE ON events FOR EACH ROW EXECUTE FUNCTION refuse_change()",
)


def upgrade() -> None:
    """Create everything."""
    _people()
    _tasks()
    _hands()
    _answers()
    op.create_table(
        "events",
        _id(),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("labeler_id", sa.Integer, sa.ForeignKey("labelers.id", name="fk_events_labeler_id")),
        sa.Column("task_id", sa.Integer, sa.ForeignKey("tasks.id", name="fk_events_task_id")),
        sa.Column("body", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
    )
    for trigger in SQLITE_TRIGGERS if op.get_bind().dialect.name == "sqlite" else POSTGRES_TRIGGERS:
        op.execute(trigger)


def _id() -> sa.Column[Any]:
    return sa.Column("id", sa.Integer, nullable=False)


def _of(table: str, other: str) -> sa.Column[Any]:
    """A column that refers to a row of another table."""
    name = f"{other}_id"
    reference = sa.ForeignKey(f"{other}s.id", name=f"fk_{table}_{name}")
    return sa.Column(name, sa.Integer, reference, nullable=False)


def _people() -> None:
    op.create_table(
        "facts",
        sa.Column("name", sa.String, nullable=False),
        sa.Column("value", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_facts"),
    )
    op.create_table(
        "labelers",
        _id(),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("labeler_group", sa.String, nullable=False),
        sa.Column("owner", sa.Boolean, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_labelers"),
        sa.UniqueConstraint("name", name="uq_labelers_name"),
    )
    op.create_table(
        "invites",
        _id(),
        _of("invites", "labeler"),
        sa.Column("salt", sa.String, nullable=False),
        sa.Column("hash", sa.String, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("spent", sa.Float),
        sa.PrimaryKeyConstraint("id", name="pk_invites"),
    )


def _tasks() -> None:
    op.create_table(
        "models",
        _id(),
        sa.Column("name", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_models"),
        sa.UniqueConstraint("name", name="uq_models_name"),
    )
    op.create_table(
        "tasks",
        _id(),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("prompt", sa.JSON, nullable=False),
        sa.Column("source", sa.JSON, nullable=False),
        sa.Column("prompt_group", sa.JSON, nullable=False),
        sa.Column("gold", sa.JSON),
        sa.Column("gold_known", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tasks"),
        sa.UniqueConstraint("key", name="uq_tasks_key"),
    )
    op.create_index("ix_tasks_gold_known_kind", "tasks", ["gold_known", "kind"])
    op.create_table(
        "candidates",
        _of("candidates", "task"),
        sa.Column("place", sa.Integer, nullable=False),
        sa.Column("text", sa.JSON, nullable=False),
        sa.Column("finished", sa.Boolean, nullable=False),
        _of("candidates", "model"),
        sa.PrimaryKeyConstraint("task_id", "place", name="pk_candidates"),
    )
    op.create_table(
        "quotas",
        _of("quotas", "task"),
        sa.Column("labeler_group", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("wanted", sa.Integer, nullable=False),
        sa.Column("done", sa.Integer, nullable=False),
        sa.Column("taken", sa.Integer, nullable=False),
        sa.Column("queue", sa.Integer, sa.Computed(FULL_QUEUE, persisted=True), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "labeler_group", name="pk_quotas"),
    )
    columns = ["labeler_group", "kind", "queue", "task_id"]
    op.create_index("ix_quotas_labeler_group_kind_queue_task_id", "quotas", columns)


def _hands() -> None:
    op.create_table(
        "leases",
        _id(),
        _of("leases", "task"),
        _of("leases", "labeler"),
        sa.Column("labeler_group", sa.String, nullable=False),
        sa.Column("shown", sa.JSON, nullable=False),
        sa.Column("expires", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_leases"),
        sa.UniqueConstraint("task_id", "labeler_id", name="uq_leases_task_id_labeler_id"),
    )
    op.create_index("ix_leases_expires", "leases", ["expires"])
    op.create_index("ix_leases_labeler_id", "leases", ["labeler_id"])
    op.create_table(
        "drafts",
        _of("drafts", "task"),
        _of("drafts", "labeler"),
        sa.Column("body", sa.JSON, nullable=False),
        sa.Column("saved", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("task_id", "labeler_id", name="pk_drafts"),
    )


def _answers() -> None:
    _answer(
        "rankings",
        sa.Column("mode", sa.String, nullable=False),
        sa.Column("ranks", sa.JSON),
        sa.Column("likert", sa.JSON),
        sa.Column("flags", sa.JSON),
        sa.Column("none_acceptable", sa.Boolean, nullable=False),
    )
    _answer("demonstrations", sa.Column("text", sa.JSON, nullable=False), sa.Column("edited", sa.Integer))
    _answer("skips", sa.Column("reason", sa.String, nullable=False), sa.Column("note", sa.JSON, nullable=False))


def _answer(table: str, *columns: sa.Column[Any]) -> None:
    op.create_table(
        table,
        _id(),
        _of(table, "task"),
        _of(table, "labeler"),
        *columns,
        sa.Column("shown", sa.JSON, nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("submitted", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
        sa.UniqueConstraint("task_id", "labeler_id", name=f"uq_{table}_task_id_labeler_id"),
    )
    op.create_index(f"ix_{table}_labeler_id", table, ["labeler_id"])
