"""What Alembic runs: the migrations, on the connection and in the transaction that `core.records.database.db` holds."""

from __future__ import annotations

from alembic import context

from core.records.database.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,  # SQLite can, once the driver's own commits are off
)
with context.begin_transaction():
    context.run_migrations()
