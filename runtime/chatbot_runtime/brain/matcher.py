"""Recognises keyword intents in a text. Pure: accents, case and punctuation do not count, and small typos are forgiven."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from rapidfuzz import fuzz

FUZZY_LEAST: Final = 88.0
"""Similarity of 100 from which a word counts as a keyword with a typo."""

FUZZY_LENGTH: Final = 5
"""Shorter keywords are never matched with typos: `hola` and `cola` differ by one letter."""

LOOKED_AT: Final = 500
"""Folded characters of a text that are compared: nobody's question needs more, and one long text must not hold the other chats up."""

_RAW: Final = 4 * LOOKED_AT
"""Characters that are folded at all; accents and punctuation go away."""

_WORDS: Final = re.compile(r"[^\w]+")


@dataclass(frozen=True, slots=True)
class Intent:
    """Something a contact may want, in one language.

    Attributes:
        name: shared by all its languages.
        locale: `es` or `en`.
        keywords: words or phrases as a person wrote them.
        reply: what the bot answers; may be empty when it hands over.
        action: whether it answers or hands over.
        rank: of intents that match equally well, the lower wins.
        folded: the keywords as they are compared, made once and not for each message.
    """

    name: str
    locale: str
    keywords: tuple[str, ...]
    reply: str
    action: Literal["reply", "handoff"]
    rank: int
    folded: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        folded = tuple(text for keyword in self.keywords if (text := fold(keyword)))
        object.__setattr__(self, "folded", folded)


@dataclass(frozen=True, slots=True)
class Match:
    """An intent that a text holds; `exact` when it holds a keyword as it is."""

    intent: Intent
    exact: bool
    length: int


def fold(text: str) -> str:
    """Return words in lower case without accents, separated by one space."""
    plain = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return _WORDS.sub(" ", plain.casefold()).replace("_", " ").strip()


def match(text: str, intents: Iterable[Intent], *, locale: str) -> Match | None:
    """Return the best intent of a text, or of its beginning if it is long; None if there is none.

    An exact keyword beats one with a typo, then the intent's rank decides, then the language given, then the longer keyword.
    """
    folded = _beginning(text.strip())
    if not folded:
        return None
    found = [hit for intent in intents if (hit := _hit(folded, intent)) is not None]
    return min(
        found, key=lambda hit: (not hit.exact, hit.intent.rank, hit.intent.locale != locale, -hit.length, hit.intent.name), default=None
    )


def _beginning(text: str) -> str:
    """Fold a text, at most `LOOKED_AT` characters of it and whole words only."""
    folded = fold(text[:_RAW])
    if len(text) <= _RAW and len(folded) <= LOOKED_AT:
        return folded
    return folded[: LOOKED_AT + 1].rpartition(" ")[0]


def _hit(folded: str, intent: Intent) -> Match | None:
    exact = [keyword for keyword in intent.folded if f" {keyword} " in f" {folded} "]
    if exact:
        return Match(intent, exact=True, length=max(map(len, exact)))
    words = folded.split()
    similar = [keyword for keyword in intent.folded if len(keyword) >= FUZZY_LENGTH and _is_similar(keyword, words)]
    return Match(intent, exact=False, length=max(map(len, similar))) if similar else None


def _is_similar(keyword: str, words: list[str]) -> bool:
    """Compare a keyword with every run of as many words."""
    size = keyword.count(" ") + 1
    runs = (" ".join(words[start : start + size]) for start in range(len(words) - size + 1))
    return any(fuzz.ratio(keyword, run, score_cutoff=FUZZY_LEAST) for run in runs)
