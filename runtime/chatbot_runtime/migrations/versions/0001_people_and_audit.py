"""People, sessions, login limits, the audit chain, and the row that says which code can work with this schema."""

from chatbot_runtime.migrations.sql import run

revision = "0001"
down_revision = None
PHASE = "expand"
COMPATIBLE_SINCE = 1

UPGRADE = """
CREATE TABLE schema_compat (
    singleton boolean DEFAULT true NOT NULL,
    version integer NOT NULL,
    compatible_since integer NOT NULL,
    CONSTRAINT pk_schema_compat PRIMARY KEY (singleton),
    CONSTRAINT ck_schema_compat_singleton CHECK (singleton)
);
INSERT INTO schema_compat (version, compatible_since) VALUES (1, 1);

CREATE TABLE users (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    username text NOT NULL,
    password_hash text NOT NULL,
    password_source text NOT NULL,
    role text NOT NULL,
    disabled boolean DEFAULT false NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    password_changed_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_users PRIMARY KEY (id),
    CONSTRAINT uq_users_username UNIQUE (username),
    CONSTRAINT ck_users_username CHECK (username = lower(username) AND char_length(username) BETWEEN 1 AND 64),
    CONSTRAINT ck_users_password_source CHECK (password_source IN ('secret', 'person')),
    CONSTRAINT ck_users_role CHECK (role IN ('viewer', 'agent', 'supervisor', 'admin'))
);

CREATE TABLE sessions (
    token_hash bytea NOT NULL,
    user_id uuid NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    last_seen_at timestamptz DEFAULT now() NOT NULL,
    expires_at timestamptz NOT NULL,
    ip text NOT NULL,
    user_agent text NOT NULL,
    CONSTRAINT pk_sessions PRIMARY KEY (token_hash),
    CONSTRAINT fk_sessions_user_id_users FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
);
CREATE INDEX ix_sessions_user_id ON sessions (user_id);
CREATE INDEX ix_sessions_expires_at ON sessions (expires_at);

CREATE TABLE ws_tickets (
    token_hash bytea NOT NULL,
    session_hash bytea NOT NULL,
    origin text NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT pk_ws_tickets PRIMARY KEY (token_hash),
    CONSTRAINT fk_ws_tickets_session_hash_sessions FOREIGN KEY (session_hash) REFERENCES sessions (token_hash) ON DELETE CASCADE
);
CREATE INDEX ix_ws_tickets_session_hash ON ws_tickets (session_hash);
CREATE INDEX ix_ws_tickets_expires_at ON ws_tickets (expires_at);

CREATE TABLE login_attempts (
    key bytea NOT NULL,
    failures integer NOT NULL,
    last_at timestamptz NOT NULL,
    blocked_until timestamptz NOT NULL,
    CONSTRAINT pk_login_attempts PRIMARY KEY (key)
);
CREATE INDEX ix_login_attempts_last_at ON login_attempts (last_at);

CREATE TABLE audit_events (
    id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
    at timestamptz DEFAULT clock_timestamp() NOT NULL,
    actor_kind text NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    outcome text NOT NULL,
    target text DEFAULT '' NOT NULL,
    ip text DEFAULT '' NOT NULL,
    request_id text DEFAULT '' NOT NULL,
    details jsonb DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT pk_audit_events PRIMARY KEY (id),
    CONSTRAINT ck_audit_events_actor_kind CHECK (actor_kind IN ('user', 'system', 'anonymous')),
    CONSTRAINT ck_audit_events_outcome CHECK (outcome IN ('ok', 'refused', 'failed'))
);
CREATE INDEX ix_audit_events_at ON audit_events (at);

CREATE TABLE audit_unsealed (
    event_id bigint NOT NULL,
    CONSTRAINT pk_audit_unsealed PRIMARY KEY (event_id),
    CONSTRAINT fk_audit_unsealed_event_id_audit_events FOREIGN KEY (event_id) REFERENCES audit_events (id)
);

CREATE TABLE audit_seals (
    seq bigint NOT NULL,
    event_id bigint NOT NULL,
    hash bytea NOT NULL,
    sealed_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_audit_seals PRIMARY KEY (seq),
    CONSTRAINT uq_audit_seals_event_id UNIQUE (event_id),
    CONSTRAINT fk_audit_seals_event_id_audit_events FOREIGN KEY (event_id) REFERENCES audit_events (id),
    CONSTRAINT ck_audit_seals_hash CHECK (octet_length(hash) = 32)
);

CREATE FUNCTION audit_note_unsealed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit_unsealed (event_id) VALUES (NEW.id);
    RETURN NULL;
END $$;
CREATE TRIGGER audit_events_unsealed AFTER INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION audit_note_unsealed();

CREATE FUNCTION audit_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse_change();
CREATE TRIGGER audit_seals_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_seals
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse_change();
"""

DOWNGRADE = """
DROP TABLE audit_seals, audit_unsealed, audit_events;
DROP FUNCTION audit_refuse_change();
DROP FUNCTION audit_note_unsealed();
DROP TABLE login_attempts, ws_tickets, sessions, users, schema_compat;
"""


def upgrade() -> None:
    run(UPGRADE)


def downgrade() -> None:
    run(DOWNGRADE)
