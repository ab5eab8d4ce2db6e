"""The queue in PostgreSQL: durable intake, an outbox with a lane per chat, leases, and what becomes of every message."""
