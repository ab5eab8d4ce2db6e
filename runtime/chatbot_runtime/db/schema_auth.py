"""Tables of people, sessions and the audit chain.

What the migration adds and a Table can't express:

- `audit_events` and `audit_seals` are append-only: a trigger raises on UPDATE, DELETE and TRUNCATE, also for their owner.
- `AFTER INSERT` on `audit_events` puts the id into `audit_unsealed`, so no writer can forget it and the sealer never scans the big table.
- The application role gets: SELECT, INSERT on `audit_events` and `audit_seals`; SELECT, INSERT, DELETE on `audit_unsealed`;
  SELECT, INSERT, UPDATE on `users`; everything but TRUNCATE on `sessions`, `ws_tickets` and `login_attempts`.
"""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from chatbot_runtime.db.metadata import metadata

_NOW = sa.text("now()")

users = sa.Table(
    "users",
    metadata,
    sa.Column("id", pg.UUID(as_uuid=True), primary_key=True, server_default=sa.text("gen_random_uuid()")),
    sa.Column("username", sa.Text, nullable=False, comment="case-folded"),
    sa.Column("password_hash", sa.Text, nullable=False, comment="argon2id, PHC string"),
    sa.Column("password_source", sa.Text, nullable=False, comment="secret: follows ADMIN_PASSWORD; person: changed in the UI"),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("disabled", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
    sa.Column("password_changed_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
    sa.UniqueConstraint("username"),
    sa.CheckConstraint("username = lower(username) AND char_length(username) BETWEEN 1 AND 64", name="username"),
    sa.CheckConstraint("password_source IN ('secret', 'person')", name="password_source"),
    sa.CheckConstraint("role IN ('viewer', 'agent', 'supervisor', 'admin')", name="role"),
)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("token_hash", pg.BYTEA, primary_key=True, comment="SHA-256 of the cookie"),
    sa.Column("user_id", pg.UUID(as_uuid=True), sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
    sa.Column("last_seen_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
    sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=False, comment="absolute; the idle limit counts from last_seen_at"),
    sa.Column("ip", sa.Text, nullable=False),
    sa.Column("user_agent", sa.Text, nullable=False),
    sa.Index("ix_sessions_user_id", "user_id"),
    sa.Index("ix_sessions_expires_at", "expires_at"),
)

ws_tickets = sa.Table(
    "ws_tickets",
    metadata,
    sa.Column("token_hash", pg.BYTEA, primary_key=True, comment="SHA-256 of the ticket"),
    sa.Column("session_hash", pg.BYTEA, sa.ForeignKey("sessions.token_hash", ondelete="CASCADE"), nullable=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Index("ix_ws_tickets_session_hash", "session_hash"),
    sa.Index("ix_ws_tickets_expires_at", "expires_at"),
)

login_attempts = sa.Table(
    "login_attempts",
    metadata,
    sa.Column("key", pg.BYTEA, primary_key=True, comment="keyed hash of kind and account or address"),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("last_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("blocked_until", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Index("ix_login_attempts_last_at", "last_at"),
)

audit_events = sa.Table(
    "audit_events",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.text("clock_timestamp()")),
    sa.Column("actor_kind", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False, comment="user id, component, or empty when nobody is known"),
    sa.Column("action", sa.Text, nullable=False, comment="noun.verb"),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False, server_default=""),
    sa.Column("ip", sa.Text, nullable=False, server_default=""),
    sa.Column("request_id", sa.Text, nullable=False, server_default=""),
    sa.Column("details", pg.JSONB, nullable=False, server_default=sa.text("'{}'::jsonb"), comment="ids and counts, never message text"),
    sa.CheckConstraint("actor_kind IN ('user', 'system', 'anonymous')", name="actor_kind"),
    sa.CheckConstraint("outcome IN ('ok', 'refused', 'failed')", name="outcome"),
    sa.Index("ix_audit_events_at", "at"),
)

audit_unsealed = sa.Table(
    "audit_unsealed",
    metadata,
    sa.Column("event_id", sa.BigInteger, sa.ForeignKey("audit_events.id"), primary_key=True, autoincrement=False),
)

audit_seals = sa.Table(
    "audit_seals",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False, comment="1, 2, 3, … without a gap"),
    sa.Column("event_id", sa.BigInteger, sa.ForeignKey("audit_events.id"), nullable=False),
    sa.Column("hash", pg.BYTEA, nullable=False, comment="SHA-256 of the previous hash and the canonical event"),
    sa.Column("sealed_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
    sa.UniqueConstraint("event_id"),
    sa.CheckConstraint("octet_length(hash) = 32", name="hash"),
)
