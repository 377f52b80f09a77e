"""Chat and rate: exchanges and votes. And a note beside a ranking."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the two tables and the column; rankings that are there get an empty note."""
    op.create_table(
        "exchanges",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column(
            "labeler_id", sa.Integer, sa.ForeignKey("labelers.id", name="fk_exchanges_labeler_id"), nullable=False
        ),
        sa.Column("prompt", sa.JSON, nullable=False),
        sa.Column("responses", sa.JSON, nullable=False),
        sa.Column("finished", sa.JSON, nullable=False),
        sa.Column("models", sa.JSON, nullable=False),
        sa.Column("asked", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_exchanges"),
    )
    op.create_table(
        "votes",
        sa.Column(
            "exchange_id", sa.Integer, sa.ForeignKey("exchanges.id", name="fk_votes_exchange_id"), nullable=False
        ),
        sa.Column("preferred", sa.String, nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("submitted", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("exchange_id", name="pk_votes"),
    )
    op.add_column("rankings", sa.Column("note", sa.JSON, nullable=False, server_default='""'))
