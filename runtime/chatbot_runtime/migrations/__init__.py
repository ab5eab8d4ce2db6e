"""Alembic environment and migrations of the runtime's schema; `db.migrate` runs them."""
