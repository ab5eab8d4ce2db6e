"""Tables of channels, conversations, messages and the queue between them.

How they belong together:

- A *lane* (`chat_lanes`) is one direction of one conversation. It counts its waiting work and is the only thing that is ever claimed:
  whoever leases a lane owns the head of its queue, so one message a chat is in flight and a chat of any depth costs the same.
- `outbox` holds messages that still have to be sent, or wait for a decision; a finished row leaves it. `messages` keeps everything.
- `outbox_attempts` is written and committed before a provider is called; its `token` comes back in the provider's status.
- `inbox` holds messages that the bot has not seen; `status_inbox` holds statuses that are not applied yet.

Locks are always taken in this order: conversation, lane `in`, lane `out`, then rows of messages and outbox.

Tables that a webhook writes have no foreign key to `channels`: each insert would lock the same row. `inbox` has none to `messages`: a
message is only ever deleted with its conversation, or after the bot has seen it.
"""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from chatbot_runtime.db.metadata import metadata

_NOW = sa.text("now()")
_ID = pg.UUID(as_uuid=True)
_TIME = sa.TIMESTAMP(timezone=True)


def _conversation(*, primary_key: bool = False) -> sa.Column[object]:
    return sa.Column("conversation_id", _ID, sa.ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False, primary_key=primary_key)


def _message() -> sa.Column[object]:
    return sa.Column("message_id", _ID, sa.ForeignKey("messages.id", ondelete="CASCADE"), nullable=False)


channels = sa.Table(
    "channels",
    metadata,
    sa.Column("id", sa.Text, primary_key=True, comment="cloud:<phone number id> or web:<name of the number>"),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("external_id", sa.Text, nullable=False),
    sa.Column("paused_until", _TIME, comment="nothing is sent before; infinity until somebody resumes"),
    sa.Column("pause_reason", sa.Text, nullable=False, server_default="", comment="one sentence; empty when not paused"),
    sa.Column("created_at", _TIME, nullable=False, server_default=_NOW),
    sa.CheckConstraint("kind IN ('cloud', 'web')", name="kind"),
)

contacts = sa.Table(
    "contacts",
    metadata,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("display_name", sa.Text, nullable=False, server_default=""),
    sa.Column("created_at", _TIME, nullable=False, server_default=_NOW),
)

contact_aliases = sa.Table(
    "contact_aliases",
    metadata,
    sa.Column("channel_id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True, comment="wa_id: phone number in digits; bsuid: business-scoped user id"),
    sa.Column("value", sa.Text, primary_key=True),
    sa.Column("contact_id", _ID, sa.ForeignKey("contacts.id", ondelete="CASCADE"), nullable=False),
    sa.Index("ix_contact_aliases_contact_id", "contact_id"),
    sa.CheckConstraint("kind IN ('wa_id', 'bsuid')", name="kind"),
)

conversations = sa.Table(
    "conversations",
    metadata,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("channel_id", sa.Text, sa.ForeignKey("channels.id"), nullable=False),
    sa.Column("contact_id", _ID, sa.ForeignKey("contacts.id", ondelete="CASCADE"), nullable=False),
    sa.Column("mode", sa.Text, nullable=False, server_default="bot"),
    sa.Column("mode_epoch", sa.BigInteger, nullable=False, server_default="0", comment="rises with each change of mode"),
    sa.Column("mode_reason", sa.Text, nullable=False, server_default=""),
    sa.Column("mode_changed_at", _TIME, nullable=False, server_default=_NOW),
    sa.Column("locale", sa.Text, nullable=False, server_default="", comment="language the contact last wrote in, if recognised"),
    sa.Column("greeted_at", _TIME),
    sa.Column("fallbacks", sa.SmallInteger, nullable=False, server_default="0", comment="turns in a row that nothing matched"),
    sa.Column("unread", sa.Integer, nullable=False, server_default="0"),
    sa.Column("last_inbound_at", _TIME, comment="opens the provider's 24 h window"),
    sa.Column("created_at", _TIME, nullable=False, server_default=_NOW),
    sa.UniqueConstraint("channel_id", "contact_id"),
    sa.Index("ix_conversations_contact_id", "contact_id"),
    sa.CheckConstraint("mode IN ('bot', 'pending_human', 'human', 'closed')", name="mode"),
)

messages = sa.Table(
    "messages",
    metadata,
    sa.Column("id", _ID, primary_key=True, comment="UUID version 7"),
    _conversation(),
    sa.Column("channel_id", sa.Text, nullable=False),
    sa.Column("origin", sa.Text, nullable=False, comment="contact: inbound; human, bot, bulk: outbound"),
    sa.Column("kind", sa.Text, nullable=False, comment="the provider's message type, such as text"),
    sa.Column("body", sa.Text, nullable=False, comment="text, caption or title; may be empty"),
    sa.Column("payload", pg.JSONB, comment="inbound: the provider's object unless it is plain text"),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("provider_message_id", sa.Text),
    sa.Column("idempotency_key", sa.Text),
    sa.Column("request_hash", pg.BYTEA, comment="SHA-256 of what was asked for with the idempotency key"),
    sa.Column("author", sa.Text, nullable=False, server_default="", comment="user id of a human message"),
    sa.Column("created_at", _TIME, nullable=False, server_default=_NOW),
    sa.Column("sent_at", _TIME, comment="inbound: when the contact sent it"),
    sa.Column("delivered_at", _TIME),
    sa.Column("read_at", _TIME),
    sa.Column("failed_at", _TIME),
    sa.Column("error_code", sa.Integer),
    sa.Column("error", sa.Text, nullable=False, server_default="", comment="why it failed, is held or dead: one sentence"),
    sa.UniqueConstraint("channel_id", "provider_message_id"),
    sa.Index("ix_messages_conversation_id_id", "conversation_id", "id"),
    sa.Index(
        "uq_messages_channel_id_idempotency_key",
        "channel_id",
        "idempotency_key",
        unique=True,
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
    ),
    sa.CheckConstraint("origin IN ('contact', 'human', 'bot', 'bulk')", name="origin"),
    sa.CheckConstraint(
        "status IN ('received', 'queued', 'sending', 'sent', 'delivered', 'read',"
        " 'failed', 'unknown', 'held', 'dead', 'cancelled', 'expired')",
        name="status",
    ),
)

chat_lanes = sa.Table(
    "chat_lanes",
    metadata,
    _conversation(primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True, comment="in: for the bot; out: for a sender"),
    sa.Column("channel_id", sa.Text, nullable=False),
    sa.Column("pending", sa.Integer, nullable=False, comment="rows that wait or are in flight"),
    sa.Column("priority", sa.SmallInteger, nullable=False, comment="most urgent priority among them: 0 human, 1 bot, 2 bulk"),
    sa.Column("next_at", _TIME, nullable=False, comment="not claimable before: end of a lease, of a back-off, or of a wait"),
    sa.Column("lease_epoch", sa.BigInteger, nullable=False, server_default="0", comment="rises with each claim; fences older claims"),
    sa.Column("open_id", sa.BigInteger, comment="out: the outbox row that is sending or unknown"),
    sa.Column("failures", sa.SmallInteger, nullable=False, server_default="0", comment="in: turns that raised in a row"),
    sa.Index("ix_chat_lanes_claim", "channel_id", "kind", "priority", "next_at", postgresql_where=sa.text("pending > 0")),
    sa.CheckConstraint("kind IN ('in', 'out')", name="kind"),
    sa.CheckConstraint("pending >= 0", name="pending"),
)

inbox = sa.Table(
    "inbox",
    metadata,
    _conversation(primary_key=True),
    sa.Column("message_id", _ID, primary_key=True),
    sa.Column("received_at", _TIME, nullable=False, server_default=_NOW),
)

outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    _message(),
    _conversation(),
    sa.Column("channel_id", sa.Text, nullable=False),
    sa.Column("priority", sa.SmallInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False, server_default="queued"),
    sa.Column("state_at", _TIME, nullable=False, server_default=_NOW),
    sa.Column("attempts", sa.SmallInteger, nullable=False, server_default="0", comment="calls of the provider"),
    sa.Column(
        "strikes", sa.SmallInteger, nullable=False, server_default="0", comment="those that the provider answered with a retryable fault"
    ),
    sa.Column("mode_epoch", sa.BigInteger, comment="bot: epoch of the conversation that the reply was computed under"),
    sa.Column("created_at", _TIME, nullable=False, server_default=_NOW),
    sa.Column("expires_at", _TIME, nullable=False),
    sa.Column("reason", sa.Text, nullable=False, server_default="", comment="why it is held or dead: one sentence"),
    sa.UniqueConstraint("message_id"),
    sa.Index("ix_outbox_head", "conversation_id", "priority", "id", postgresql_where=sa.text("state = 'queued'")),
    sa.Index("ix_outbox_conversation_id", "conversation_id"),
    sa.CheckConstraint("state IN ('queued', 'sending', 'unknown', 'held', 'dead')", name="state"),
)

outbox_attempts = sa.Table(
    "outbox_attempts",
    metadata,
    sa.Column("token", _ID, primary_key=True, comment="sent as biz_opaque_callback_data, comes back in statuses"),
    _message(),
    sa.Column("number", sa.SmallInteger, nullable=False),
    sa.Column("worker", sa.Text, nullable=False),
    sa.Column("started_at", _TIME, nullable=False, server_default=_NOW),
    sa.Column("finished_at", _TIME),
    sa.Column("result", sa.Text, nullable=False, server_default="", comment="empty while nothing is known"),
    sa.Column("error_code", sa.Integer),
    sa.Index("ix_outbox_attempts_message_id", "message_id"),
    sa.Index("ix_outbox_attempts_started_at", "started_at"),
)

status_inbox = sa.Table(
    "status_inbox",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("channel_id", sa.Text, nullable=False),
    sa.Column("provider_message_id", sa.Text, nullable=False),
    sa.Column("token", _ID),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("at", _TIME, nullable=False),
    sa.Column("error_code", sa.Integer),
    sa.Column("error", sa.Text, nullable=False, server_default=""),
    sa.Column("received_at", _TIME, nullable=False, server_default=_NOW),
    sa.Column("next_at", _TIME, nullable=False, server_default=_NOW, comment="when to look again for its message"),
    sa.Index("ix_status_inbox_next_at", "next_at"),
    sa.CheckConstraint("status IN ('sent', 'delivered', 'read', 'failed')", name="status"),
)

raw_events = sa.Table(
    "raw_events",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("reason", sa.Text, nullable=False, comment="why it was not understood"),
    sa.Column("payload", pg.JSONB, nullable=False),
    sa.Column("received_at", _TIME, nullable=False, server_default=_NOW),
    sa.Index("ix_raw_events_received_at", "received_at"),
)

worker_leases = sa.Table(
    "worker_leases",
    metadata,
    sa.Column("name", sa.Text, primary_key=True, comment="what one process at a time may do, such as web:<number>"),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False, comment="rises with each new holder"),
    sa.Column("expires_at", _TIME, nullable=False),
)

rate_limits = sa.Table(
    "rate_limits",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("tat", _TIME, nullable=False, comment="theoretical arrival time of GCRA"),
)

schedule_fires = sa.Table(
    "schedule_fires",
    metadata,
    sa.Column("schedule", sa.Text, primary_key=True),
    sa.Column("fire_time", _TIME, primary_key=True, comment="the planned time, not the actual one"),
    sa.Column("finished_at", _TIME, nullable=False, server_default=sa.text("clock_timestamp()")),
    sa.Column("detail", sa.Text, nullable=False, server_default=""),
    sa.Index("ix_schedule_fires_fire_time", "fire_time"),
)

schema_compat = sa.Table(
    "schema_compat",
    metadata,
    sa.Column("singleton", sa.Boolean, primary_key=True, server_default=sa.true(), comment="there is one row"),
    sa.Column("version", sa.Integer, nullable=False, comment="number of the newest migration"),
    sa.Column("compatible_since", sa.Integer, nullable=False, comment="least version of code that can work with this schema"),
    sa.CheckConstraint("singleton", name="singleton"),
)

bot_intents = sa.Table(
    "bot_intents",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("locale", sa.Text, primary_key=True),
    sa.Column("keywords", pg.ARRAY(sa.Text), nullable=False),
    sa.Column("reply", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False, server_default="reply"),
    sa.Column("rank", sa.SmallInteger, nullable=False, server_default="10", comment="of intents that match equally well, the lower wins"),
    sa.Column("enabled", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.CheckConstraint("action IN ('reply', 'handoff')", name="action"),
    sa.CheckConstraint("cardinality(keywords) > 0", name="keywords"),
)

bot_texts = sa.Table(
    "bot_texts",
    metadata,
    sa.Column("key", sa.Text, primary_key=True, comment="greeting, fallback, handoff or unsupported"),
    sa.Column("locale", sa.Text, primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
)
