"""Tasks that are queued later and come sooner: what a new policy has answered must not wait behind thousands."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the turn, which is the same for all tasks that are there."""
    op.add_column("quotas", sa.Column("turn", sa.Integer, nullable=False, server_default="0"))
    op.drop_index("ix_quotas_labeler_group_kind_queue_task_id", "quotas")
    columns = ["labeler_group", "kind", "queue", "turn", "task_id"]
    op.create_index("ix_quotas_labeler_group_kind_queue_turn_task_id", "quotas", columns)
