"""Run by alembic: applies migrations on the connection, and in the transaction, that `database.py` hands over."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
context.run_migrations()
