"""Alembic's entry: runs migrations on the connection that `db.migrate` hands over, which holds the advisory lock."""

from alembic import context

from chatbot_runtime.db.metadata import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
