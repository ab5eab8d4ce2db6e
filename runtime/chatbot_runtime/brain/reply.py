"""Decides one turn of the bot. Pure: a conversation, its new messages and what the bot knows, in; what to do, out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from chatbot_runtime.brain.matcher import Intent, Match, match
from chatbot_runtime.queue.conversations import Conversation, Mode

TEXT_KINDS: Final = frozenset({"text", "button", "interactive"})
SILENT_KINDS: Final = frozenset({"reaction", "system", "unsupported", "ephemeral"})
"""Nobody expects an answer to these."""

FALLBACKS_MAX: Final = 2
"""This many turns in a row that nothing matched, and a person takes over."""

REPLIES_MAX: Final = 3
"""Most intents that one turn answers."""

Result = Literal["silent", "reply", "fallback", "unsupported", "handoff"]


@dataclass(frozen=True, slots=True)
class Heard:
    """A message that the bot has not seen: the provider's type, and its text."""

    kind: str
    body: str


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What the bot knows. `texts` are by (key, locale)."""

    intents: tuple[Intent, ...]
    texts: Mapping[tuple[str, str], str]

    def text(self, key: str, locale: str) -> str:
        """Return a text in a language, else in any other, else empty."""
        found = self.texts.get((key, locale))
        return found or next((body for (name, _), body in sorted(self.texts.items()) if name == key), "")


@dataclass(frozen=True, slots=True)
class Turn:
    """What to do.

    Attributes:
        result: what kind of turn it was.
        reply: what to send, of any length; empty for nothing.
        locale: language of the conversation from now on.
        greets: whether the reply holds the first greeting.
        fallbacks: turns in a row that nothing matched, from now on.
        handoff: why a person takes over; empty when none does.
        reopens: whether a closed conversation is the bot's again.
    """

    result: Result
    locale: str
    reply: str = ""
    greets: bool = False
    fallbacks: int = 0
    handoff: str = ""
    reopens: bool = False


def decide_turn(conversation: Conversation, heard: Sequence[Heard], knowledge: Knowledge, default_locale: str) -> Turn:
    """Decide what the bot does about messages that came together.

    Args:
        conversation: as it is now.
        heard: its new messages, oldest first.
        knowledge: intents and texts.
        default_locale: language as long as the contact's is not known.
    """
    locale = conversation.locale or default_locale
    audible = [item for item in heard if item.kind not in SILENT_KINDS]
    if conversation.mode in (Mode.HUMAN, Mode.PENDING_HUMAN) or not audible:
        return Turn("silent", conversation.locale, fallbacks=conversation.fallbacks)
    reopens = conversation.mode is Mode.CLOSED
    texts = [item.body for item in audible if item.kind in TEXT_KINDS and item.body.strip()]
    matches = [found for text in texts if (found := match(text, knowledge.intents, locale=locale)) is not None]
    if matches:
        locale = matches[-1].intent.locale
    greeting = knowledge.text("greeting", locale) if conversation.greeted_at is None else ""
    if any(found.intent.action == "handoff" for found in matches):
        return _handoff("asked", locale, knowledge, greeting, reopens=reopens)
    if matches:
        reply = "\n\n".join([*filter(None, [greeting]), *_replies(matches)])
        return Turn("reply", locale, reply, greets=bool(greeting), reopens=reopens)
    if not texts:
        reply = "\n\n".join(filter(None, [greeting, knowledge.text("unsupported", locale)]))
        return Turn("unsupported", conversation.locale, reply, bool(greeting), conversation.fallbacks, reopens=reopens)
    fallbacks = (0 if reopens else conversation.fallbacks) + 1
    if fallbacks >= FALLBACKS_MAX:
        return _handoff("not understood", locale, knowledge, greeting, reopens=reopens)
    reply = "\n\n".join(filter(None, [greeting, knowledge.text("fallback", locale)]))
    return Turn("fallback", conversation.locale, reply, greets=bool(greeting), fallbacks=fallbacks, reopens=reopens)


def _handoff(reason: str, locale: str, knowledge: Knowledge, greeting: str, *, reopens: bool) -> Turn:
    reply = "\n\n".join(filter(None, [greeting, knowledge.text("handoff", locale)]))
    return Turn("handoff", locale, reply, greets=bool(greeting), handoff=reason, reopens=reopens)


def _replies(matches: Iterable[Match]) -> list[str]:
    """Return each intent's reply once, in the order of the questions."""
    replies = dict.fromkeys(found.intent.reply for found in matches if found.intent.reply)
    return list(replies)[:REPLIES_MAX]


def pieces(text: str, limit: int) -> list[str]:
    """Cut a text into messages of at most `limit` characters, at the end of a paragraph, line or word if one ends late enough."""
    found, rest = [], text.strip()
    while len(rest) > limit:
        ends = (rest.rfind(mark, 0, limit + len(mark)) for mark in ("\n\n", "\n", " "))
        end = next((end for end in ends if end > limit // 2), limit)
        found.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    return [*found, rest] if rest else found
