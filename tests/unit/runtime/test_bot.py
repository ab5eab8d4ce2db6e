"""The bot's decisions: what it understands, when it greets, falls back and hands over. Needs nothing."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from chatbot_runtime.brain import matcher
from chatbot_runtime.brain.matcher import LOOKED_AT, Intent, fold, match
from chatbot_runtime.brain.reply import Heard, Knowledge, Turn, decide_turn, pieces
from chatbot_runtime.queue.conversations import Conversation, Mode

HELLO = Intent("hello", "es", ("hola", "buenas tardes"), "¿En qué te ayudo?", "reply", 30)
HELLO_EN = Intent("hello", "en", ("hello",), "How can I help?", "reply", 30)
HOURS = Intent("hours", "es", ("horario", "a qué hora abren"), "De 9 a 18.", "reply", 10)
HOURS_EN = Intent("hours", "en", ("hours",), "9 to 18.", "reply", 10)
MENU = Intent("menu", "es", ("menú",), "Opciones", "reply", 10)
MENU_EN = Intent("menu", "en", ("menu",), "Options", "reply", 10)
AGENT = Intent("agent", "es", ("agente", "hablar con una persona"), "", "handoff", 0)
INTENTS = (HELLO, HELLO_EN, HOURS, HOURS_EN, MENU, MENU_EN, AGENT)
KNOWLEDGE = Knowledge(
    INTENTS,
    {(key, locale): f"{key} {locale}" for key in ("greeting", "fallback", "handoff", "unsupported") for locale in ("es", "en")},
)


def chat(**fields: object) -> Conversation:
    values = {"mode": Mode.BOT, "mode_epoch": 0, "locale": "es", "greeted_at": datetime(2026, 1, 1, tzinfo=UTC), "fallbacks": 0, **fields}
    return Conversation(id=uuid4(), channel="cloud:1", **values)  # type: ignore[arg-type]


def turn(*bodies: str, kind: str = "text", **fields: object) -> Turn:
    return decide_turn(chat(**fields), [Heard(kind, body) for body in bodies], KNOWLEDGE, "es")


@pytest.mark.parametrize(
    ("text", "folded"), [("  ¡Buenos   DÍAS! ", "buenos dias"), ("menú", "menu"), ("ﬁn", "fin"), ("🙂", ""), ("a_b", "a b")]
)
def test_fold(text: str, folded: str) -> None:
    assert fold(text) == folded


@pytest.mark.parametrize(
    ("text", "name", "locale"),
    [
        ("HORARIO?", "hours", "es"), ("¿a que hora abren hoy?", "hours", "es"), ("horaro por favor", "hours", "es"),
        ("hola, quiero un agente", "agent", "es"), ("buenas tardes, a qué hora abren", "hours", "es"), ("opening hours", "hours", "en"),
        ("quiero hablar con una persona", "agent", "es"), ("menu", "menu", "es"),
    ],
)  # fmt: skip
def test_an_intent_is_recognised(text: str, name: str, locale: str) -> None:
    found = match(text, INTENTS, locale="es")
    assert found is not None
    assert (found.intent.name, found.intent.locale) == (name, locale)


@pytest.mark.parametrize("text", ["", "cola", "holas", "agenda", "xyz", "🙂", "horror", "a" * 5000])
def test_what_is_not_meant_is_not_recognised(text: str) -> None:
    assert match(text, INTENTS, locale="es") is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("¿qué tal? " * 40 + "horario", True),
        ("¿qué tal? " * 70 + "horario", False),
        ("a" * (LOOKED_AT - 8) + " horario", True),
        ("a" * (LOOKED_AT - 8) + " horarios y más", False),
        ("a" * (LOOKED_AT - 5) + " menú" + "x" * 5000, False),
        (" " * 10_000 + "horario", True),
        ("!" * 10_000 + "horario", False),
    ],
)
def test_only_the_beginning_of_a_long_text_is_read_and_no_word_is_cut(text: str, found: bool) -> None:
    assert (match(text, INTENTS, locale="es") is not None) == found


def test_a_message_folds_its_own_text_only_and_of_that_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    folded: list[int] = []
    monkeypatch.setattr(matcher, "fold", lambda text: folded.append(len(text)) or fold(text))
    match("á" * 4096, INTENTS, locale="es")
    assert len(folded) == 1
    assert folded[0] <= 4 * LOOKED_AT


def test_the_contacts_language_decides_between_equals() -> None:
    found = match("menu", INTENTS, locale="en")
    assert found is not None
    assert found.intent is MENU_EN


def test_the_first_answer_greets_once() -> None:
    assert turn("hola", greeted_at=None) == Turn("reply", "es", "greeting es\n\n¿En qué te ayudo?", greets=True)
    assert turn("hola") == Turn("reply", "es", "¿En qué te ayudo?")


def test_several_messages_get_one_answer_with_each_reply_once() -> None:
    assert turn("hola", "horario", "HORARIO", "menú").reply == "¿En qué te ayudo?\n\nDe 9 a 18.\n\nOpciones"


def test_the_language_follows_the_contact() -> None:
    assert turn("hours", locale="") == Turn("reply", "en", "9 to 18.")


def test_two_fallbacks_in_a_row_bring_a_person() -> None:
    assert turn("xyz") == Turn("fallback", "es", "fallback es", fallbacks=1)
    assert turn("xyz", fallbacks=1) == Turn("handoff", "es", "handoff es", handoff="not understood")
    assert turn("horario", fallbacks=1).fallbacks == 0


def test_asking_for_a_person_beats_everything() -> None:
    assert turn("horario", "agente", "menú") == Turn("handoff", "es", "handoff es", handoff="asked")


@pytest.mark.parametrize("mode", [Mode.HUMAN, Mode.PENDING_HUMAN])
def test_the_bot_is_silent_while_a_person_speaks(mode: Mode) -> None:
    assert turn("horario", mode=mode, fallbacks=1) == Turn("silent", "es", fallbacks=1)


def test_a_closed_conversation_opens_again() -> None:
    assert turn("horario", mode=Mode.CLOSED).reopens
    assert turn("xyz", mode=Mode.CLOSED, fallbacks=1).result == "fallback"


def test_nobody_expects_an_answer_to_a_reaction() -> None:
    assert turn("👍", kind="reaction").result == "silent"


def test_a_picture_gets_an_honest_answer() -> None:
    assert turn("", kind="image") == Turn("unsupported", "es", "unsupported es")


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("", []),
        (" \n", []),
        ("x" * 20, ["x" * 20]),
        ("x" * 45, ["x" * 20, "x" * 20, "x" * 5]),
        ("one two three\n\nfour five six", ["one two three", "four five six"]),
        ("one two three four five", ["one two three four", "five"]),
        ("x" * 20 + "\n\n" + "y" * 20, ["x" * 20, "y" * 20]),
        ("a\n\n" + "x" * 25, ["a\n\n" + "x" * 17, "x" * 8]),
    ],
)
def test_a_long_reply_is_cut_where_a_reader_would(text: str, cut: list[str]) -> None:
    assert pieces(text, 20) == cut
