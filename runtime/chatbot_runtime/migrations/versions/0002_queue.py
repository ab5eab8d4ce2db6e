"""Channels, conversations, messages, and the queue with a lane per chat."""

from chatbot_runtime.migrations.sql import run

revision = "0002"
down_revision = "0001"
PHASE = "expand"
COMPATIBLE_SINCE = 1

TABLES = """
CREATE TABLE channels (
    id text NOT NULL,
    kind text NOT NULL,
    external_id text NOT NULL,
    paused_until timestamptz,
    pause_reason text DEFAULT '' NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_channels PRIMARY KEY (id),
    CONSTRAINT ck_channels_kind CHECK (kind IN ('cloud', 'web'))
);

CREATE TABLE contacts (
    id uuid NOT NULL,
    display_name text DEFAULT '' NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_contacts PRIMARY KEY (id)
);

CREATE TABLE contact_aliases (
    channel_id text NOT NULL,
    kind text NOT NULL,
    value text NOT NULL,
    contact_id uuid NOT NULL,
    CONSTRAINT pk_contact_aliases PRIMARY KEY (channel_id, kind, value),
    CONSTRAINT fk_contact_aliases_contact_id_contacts FOREIGN KEY (contact_id) REFERENCES contacts (id) ON DELETE CASCADE,
    CONSTRAINT ck_contact_aliases_kind CHECK (kind IN ('wa_id', 'bsuid'))
);
CREATE INDEX ix_contact_aliases_contact_id ON contact_aliases (contact_id);

CREATE TABLE conversations (
    id uuid NOT NULL,
    channel_id text NOT NULL,
    contact_id uuid NOT NULL,
    mode text DEFAULT 'bot' NOT NULL,
    mode_epoch bigint DEFAULT 0 NOT NULL,
    mode_reason text DEFAULT '' NOT NULL,
    mode_changed_at timestamptz DEFAULT now() NOT NULL,
    locale text DEFAULT '' NOT NULL,
    greeted_at timestamptz,
    fallbacks smallint DEFAULT 0 NOT NULL,
    unread integer DEFAULT 0 NOT NULL,
    last_inbound_at timestamptz,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_conversations PRIMARY KEY (id),
    CONSTRAINT uq_conversations_channel_id_contact_id UNIQUE (channel_id, contact_id),
    CONSTRAINT fk_conversations_channel_id_channels FOREIGN KEY (channel_id) REFERENCES channels (id),
    CONSTRAINT fk_conversations_contact_id_contacts FOREIGN KEY (contact_id) REFERENCES contacts (id) ON DELETE CASCADE,
    CONSTRAINT ck_conversations_mode CHECK (mode IN ('bot', 'pending_human', 'human', 'closed'))
) WITH (fillfactor = 70);
CREATE INDEX ix_conversations_contact_id ON conversations (contact_id);

CREATE TABLE messages (
    id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    channel_id text NOT NULL,
    origin text NOT NULL,
    kind text NOT NULL,
    body text NOT NULL,
    payload jsonb,
    status text NOT NULL,
    provider_message_id text,
    idempotency_key text,
    request_hash bytea,
    author text DEFAULT '' NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    sent_at timestamptz,
    delivered_at timestamptz,
    read_at timestamptz,
    failed_at timestamptz,
    error_code integer,
    error text DEFAULT '' NOT NULL,
    CONSTRAINT pk_messages PRIMARY KEY (id),
    CONSTRAINT uq_messages_channel_id_provider_message_id UNIQUE (channel_id, provider_message_id),
    CONSTRAINT fk_messages_conversation_id_conversations FOREIGN KEY (conversation_id)
        REFERENCES conversations (id) ON DELETE CASCADE,
    CONSTRAINT ck_messages_origin CHECK (origin IN ('contact', 'human', 'bot', 'bulk')),
    CONSTRAINT ck_messages_status CHECK (status IN ('received', 'queued', 'sending', 'sent', 'delivered', 'read',
        'failed', 'unknown', 'held', 'dead', 'cancelled', 'expired'))
);
CREATE INDEX ix_messages_conversation_id_id ON messages (conversation_id, id);
CREATE UNIQUE INDEX uq_messages_channel_id_idempotency_key ON messages (channel_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

CREATE TABLE chat_lanes (
    conversation_id uuid NOT NULL,
    kind text NOT NULL,
    channel_id text NOT NULL,
    pending integer NOT NULL,
    priority smallint NOT NULL,
    next_at timestamptz NOT NULL,
    lease_epoch bigint DEFAULT 0 NOT NULL,
    open_id bigint,
    failures smallint DEFAULT 0 NOT NULL,
    CONSTRAINT pk_chat_lanes PRIMARY KEY (conversation_id, kind),
    CONSTRAINT fk_chat_lanes_conversation_id_conversations FOREIGN KEY (conversation_id)
        REFERENCES conversations (id) ON DELETE CASCADE,
    CONSTRAINT ck_chat_lanes_kind CHECK (kind IN ('in', 'out')),
    CONSTRAINT ck_chat_lanes_pending CHECK (pending >= 0)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01);
CREATE INDEX ix_chat_lanes_claim ON chat_lanes (channel_id, kind, priority, next_at) WHERE pending > 0;

CREATE TABLE inbox (
    conversation_id uuid NOT NULL,
    message_id uuid NOT NULL,
    received_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_inbox PRIMARY KEY (conversation_id, message_id),
    CONSTRAINT fk_inbox_conversation_id_conversations FOREIGN KEY (conversation_id)
        REFERENCES conversations (id) ON DELETE CASCADE
) WITH (autovacuum_vacuum_scale_factor = 0.01);

CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
    message_id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    channel_id text NOT NULL,
    priority smallint NOT NULL,
    state text DEFAULT 'queued' NOT NULL,
    state_at timestamptz DEFAULT now() NOT NULL,
    attempts smallint DEFAULT 0 NOT NULL,
    strikes smallint DEFAULT 0 NOT NULL,
    mode_epoch bigint,
    created_at timestamptz DEFAULT now() NOT NULL,
    expires_at timestamptz NOT NULL,
    reason text DEFAULT '' NOT NULL,
    CONSTRAINT pk_outbox PRIMARY KEY (id),
    CONSTRAINT uq_outbox_message_id UNIQUE (message_id),
    CONSTRAINT fk_outbox_message_id_messages FOREIGN KEY (message_id) REFERENCES messages (id) ON DELETE CASCADE,
    CONSTRAINT fk_outbox_conversation_id_conversations FOREIGN KEY (conversation_id)
        REFERENCES conversations (id) ON DELETE CASCADE,
    CONSTRAINT ck_outbox_state CHECK (state IN ('queued', 'sending', 'unknown', 'held', 'dead'))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01);
CREATE INDEX ix_outbox_head ON outbox (conversation_id, priority, id) WHERE state = 'queued';
CREATE INDEX ix_outbox_conversation_id ON outbox (conversation_id);

CREATE TABLE outbox_attempts (
    token uuid NOT NULL,
    message_id uuid NOT NULL,
    number smallint NOT NULL,
    worker text NOT NULL,
    started_at timestamptz DEFAULT now() NOT NULL,
    finished_at timestamptz,
    result text DEFAULT '' NOT NULL,
    error_code integer,
    CONSTRAINT pk_outbox_attempts PRIMARY KEY (token),
    CONSTRAINT fk_outbox_attempts_message_id_messages FOREIGN KEY (message_id) REFERENCES messages (id) ON DELETE CASCADE
);
CREATE INDEX ix_outbox_attempts_message_id ON outbox_attempts (message_id);
CREATE INDEX ix_outbox_attempts_started_at ON outbox_attempts (started_at);

CREATE TABLE status_inbox (
    id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
    channel_id text NOT NULL,
    provider_message_id text NOT NULL,
    token uuid,
    status text NOT NULL,
    at timestamptz NOT NULL,
    error_code integer,
    error text DEFAULT '' NOT NULL,
    received_at timestamptz DEFAULT now() NOT NULL,
    next_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_status_inbox PRIMARY KEY (id),
    CONSTRAINT ck_status_inbox_status CHECK (status IN ('sent', 'delivered', 'read', 'failed'))
) WITH (autovacuum_vacuum_scale_factor = 0.01);
CREATE INDEX ix_status_inbox_next_at ON status_inbox (next_at);

CREATE TABLE raw_events (
    id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
    reason text NOT NULL,
    payload jsonb NOT NULL,
    received_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_raw_events PRIMARY KEY (id)
);
CREATE INDEX ix_raw_events_received_at ON raw_events (received_at);

CREATE TABLE worker_leases (
    name text NOT NULL,
    holder text NOT NULL,
    epoch bigint NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT pk_worker_leases PRIMARY KEY (name)
);

CREATE TABLE rate_limits (
    key text NOT NULL,
    tat timestamptz NOT NULL,
    CONSTRAINT pk_rate_limits PRIMARY KEY (key)
) WITH (fillfactor = 50);

CREATE TABLE schedule_fires (
    schedule text NOT NULL,
    fire_time timestamptz NOT NULL,
    finished_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    detail text DEFAULT '' NOT NULL,
    CONSTRAINT pk_schedule_fires PRIMARY KEY (schedule, fire_time)
);
CREATE INDEX ix_schedule_fires_fire_time ON schedule_fires (fire_time);
"""

INGEST = """
CREATE FUNCTION ingest_v1(p_messages jsonb, p_statuses jsonb, p_raw jsonb, p_quiet interval)
    RETURNS TABLE (stored integer, repeated integer, statuses integer, raw integer) LANGUAGE plpgsql AS $$
DECLARE
    m record;
    by_bsuid uuid;
    by_wa_id uuid;
    the_contact uuid;
    the_conversation uuid;
BEGIN
    stored := 0;
    repeated := 0;
    statuses := 0;
    raw := 0;
    -- Sorted by chat, so that two webhooks with the same chats can't wait for each other.
    FOR m IN
        SELECT * FROM jsonb_to_recordset(p_messages) AS x(
            id uuid, channel text, provider_id text, wa_id text, bsuid text, name text, kind text, body text, payload jsonb,
            sent_at timestamptz)
        ORDER BY channel, coalesce(bsuid, wa_id), id
    LOOP
        LOOP
            by_bsuid := NULL;
            by_wa_id := NULL;
            IF m.bsuid IS NOT NULL THEN
                SELECT contact_id INTO by_bsuid FROM contact_aliases a
                    WHERE a.channel_id = m.channel AND a.kind = 'bsuid' AND a.value = m.bsuid;
            END IF;
            IF m.wa_id IS NOT NULL THEN
                SELECT contact_id INTO by_wa_id FROM contact_aliases a
                    WHERE a.channel_id = m.channel AND a.kind = 'wa_id' AND a.value = m.wa_id;
            END IF;
            the_contact := coalesce(by_bsuid, by_wa_id);
            EXIT WHEN the_contact IS NOT NULL;
            INSERT INTO contacts (id, display_name) VALUES (gen_random_uuid(), coalesce(m.name, '')) RETURNING id INTO the_contact;
            INSERT INTO contact_aliases (channel_id, kind, value, contact_id)
                VALUES (m.channel, CASE WHEN m.bsuid IS NULL THEN 'wa_id' ELSE 'bsuid' END, coalesce(m.bsuid, m.wa_id), the_contact)
                ON CONFLICT DO NOTHING;
            -- Lost the race for a new contact: the winner has committed, so the next look finds it.
            IF NOT FOUND THEN
                DELETE FROM contacts c WHERE c.id = the_contact;
            END IF;
        END LOOP;
        IF m.bsuid IS NOT NULL AND by_bsuid IS NULL THEN
            INSERT INTO contact_aliases (channel_id, kind, value, contact_id) VALUES (m.channel, 'bsuid', m.bsuid, the_contact)
                ON CONFLICT DO NOTHING;
        END IF;
        IF m.wa_id IS NOT NULL AND by_wa_id IS NULL THEN
            INSERT INTO contact_aliases (channel_id, kind, value, contact_id) VALUES (m.channel, 'wa_id', m.wa_id, the_contact)
                ON CONFLICT DO NOTHING;
        END IF;

        SELECT c.id INTO the_conversation FROM conversations c WHERE c.channel_id = m.channel AND c.contact_id = the_contact;
        IF the_conversation IS NULL THEN
            INSERT INTO channels (id, kind, external_id)
                VALUES (m.channel, split_part(m.channel, ':', 1), substr(m.channel, strpos(m.channel, ':') + 1))
                ON CONFLICT DO NOTHING;
            INSERT INTO conversations (id, channel_id, contact_id) VALUES (gen_random_uuid(), m.channel, the_contact)
                ON CONFLICT (channel_id, contact_id) DO UPDATE SET contact_id = excluded.contact_id
                RETURNING id INTO the_conversation;
        END IF;

        INSERT INTO messages (id, conversation_id, channel_id, origin, kind, body, payload, status, provider_message_id, sent_at)
            VALUES (m.id, the_conversation, m.channel, 'contact', m.kind, m.body, m.payload, 'received', m.provider_id, m.sent_at)
            ON CONFLICT (channel_id, provider_message_id) DO NOTHING;
        IF NOT FOUND THEN
            repeated := repeated + 1;
            CONTINUE;
        END IF;
        stored := stored + 1;
        UPDATE conversations c SET unread = c.unread + 1, last_inbound_at = greatest(c.last_inbound_at, m.sent_at, c.created_at)
            WHERE c.id = the_conversation;
        INSERT INTO chat_lanes AS l (conversation_id, kind, channel_id, pending, priority, next_at)
            VALUES (the_conversation, 'in', m.channel, 1, 1, now() + p_quiet)
            ON CONFLICT (conversation_id, kind) DO UPDATE SET pending = l.pending + 1,
                next_at = CASE WHEN l.pending = 0 THEN excluded.next_at ELSE l.next_at END;
        INSERT INTO inbox (conversation_id, message_id) VALUES (the_conversation, m.id);
    END LOOP;

    -- Most webhooks hold one kind of thing, and even an empty statement costs its start.
    IF p_statuses <> '[]' THEN
        INSERT INTO status_inbox (channel_id, provider_message_id, token, status, at, error_code, error)
            SELECT s.channel, s.provider_id, s.token, s.status, coalesce(s.at, now()), s.error_code, coalesce(s.error, '')
            FROM jsonb_to_recordset(p_statuses) AS s(
                channel text, provider_id text, token uuid, status text, at timestamptz, error_code integer, error text);
        GET DIAGNOSTICS statuses = ROW_COUNT;
    END IF;
    IF p_raw <> '[]' THEN
        INSERT INTO raw_events (reason, payload)
            SELECT r.reason, coalesce(r.payload, 'null') FROM jsonb_to_recordset(p_raw) AS r(reason text, payload jsonb);
        GET DIAGNOSTICS raw = ROW_COUNT;
    END IF;
    RETURN NEXT;
END $$;
"""

DOWNGRADE = """
DROP FUNCTION ingest_v1(jsonb, jsonb, jsonb, interval);
DROP TABLE schedule_fires, rate_limits, worker_leases, raw_events, status_inbox, outbox_attempts, outbox, inbox, chat_lanes, messages,
    conversations, contact_aliases, contacts, channels;
UPDATE schema_compat SET version = 1;
"""


def upgrade() -> None:
    run(TABLES)
    run(INGEST)
    run("UPDATE schema_compat SET version = 2;")


def downgrade() -> None:
    run(DOWNGRADE)
