"""What the bot understands and says, with defaults in Spanish and English that a fresh instance can answer with."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from chatbot_runtime.migrations.sql import run

revision = "0003"
down_revision = "0002"
PHASE = "expand"
COMPATIBLE_SINCE = 1

TABLES = """
CREATE TABLE bot_intents (
    name text NOT NULL,
    locale text NOT NULL,
    keywords text[] NOT NULL,
    reply text NOT NULL,
    action text DEFAULT 'reply' NOT NULL,
    rank smallint DEFAULT 10 NOT NULL,
    enabled boolean DEFAULT true NOT NULL,
    CONSTRAINT pk_bot_intents PRIMARY KEY (name, locale),
    CONSTRAINT ck_bot_intents_action CHECK (action IN ('reply', 'handoff')),
    CONSTRAINT ck_bot_intents_keywords CHECK (cardinality(keywords) > 0)
);

CREATE TABLE bot_texts (
    key text NOT NULL,
    locale text NOT NULL,
    body text NOT NULL,
    CONSTRAINT pk_bot_texts PRIMARY KEY (key, locale)
);

UPDATE schema_compat SET version = 3;
"""

INTENTS = (
    ("hello", "es", ["hola", "buenas", "buenos días", "buenas tardes", "buenas noches"],
     "¿En qué te puedo ayudar? Escribe *menú* para ver las opciones.", "reply", 30),
    ("hello", "en", ["hello", "hi", "hey", "good morning", "good afternoon", "good evening"],
     "How can I help? Write *menu* to see the options.", "reply", 30),
    ("menu", "es", ["menú", "opciones", "ayuda", "inicio"],
     "Puedo ayudarte con:\n• *horario*: cuándo atendemos\n• *agente*: hablar con una persona", "reply", 10),
    ("menu", "en", ["menu", "options", "help", "start"],
     "I can help with:\n• *hours*: when we are open\n• *agent*: talk to a person", "reply", 10),
    ("hours", "es", ["horario", "horarios", "a qué hora abren", "cuándo abren", "están abiertos"],
     "Atendemos de lunes a viernes, de 9:00 a 18:00.", "reply", 10),
    ("hours", "en", ["hours", "opening hours", "when do you open", "are you open"],
     "We are open Monday to Friday, 9:00 to 18:00.", "reply", 10),
    ("thanks", "es", ["gracias", "muchas gracias", "mil gracias"], "¡Con gusto!", "reply", 20),
    ("thanks", "en", ["thanks", "thank you", "thx"], "You are welcome!", "reply", 20),
    ("agent", "es", ["agente", "asesor", "humano", "persona", "hablar con una persona", "operador"], "", "handoff", 0),
    ("agent", "en", ["agent", "human", "person", "talk to a person", "operator", "representative"], "", "handoff", 0),
)  # fmt: skip

TEXTS = (
    ("greeting", "es", "¡Hola! Soy el asistente automático."),
    ("greeting", "en", "Hello! I am the automatic assistant."),
    ("fallback", "es", "No te entendí. Escribe *menú* para ver las opciones, o *agente* para hablar con una persona."),
    ("fallback", "en", "I did not understand. Write *menu* to see the options, or *agent* to talk to a person."),
    ("handoff", "es", "Te paso con una persona. Te responderá por aquí en cuanto pueda."),
    ("handoff", "en", "I am passing you to a person, who will answer here as soon as possible."),
    ("unsupported", "es", "Por ahora solo entiendo mensajes de texto. Escribe *agente* para hablar con una persona."),
    ("unsupported", "en", "For now I only understand text messages. Write *agent* to talk to a person."),
)

DOWNGRADE = """
DROP TABLE bot_texts, bot_intents;
UPDATE schema_compat SET version = 2;
"""


def upgrade() -> None:
    run(TABLES)
    names = ("name", "locale", "keywords", "reply", "action", "rank")
    types: dict[str, sa.types.TypeEngine[Any]] = {"keywords": sa.ARRAY(sa.Text()), "rank": sa.SmallInteger()}
    intents = sa.table("bot_intents", *(sa.column(name, types.get(name, sa.Text())) for name in names))
    op.bulk_insert(intents, [dict(zip(names, row, strict=True)) for row in INTENTS])
    texts = sa.table("bot_texts", sa.column("key"), sa.column("locale"), sa.column("body"))
    op.bulk_insert(texts, [dict(zip(("key", "locale", "body"), row, strict=True)) for row in TEXTS])


def downgrade() -> None:
    run(DOWNGRADE)
