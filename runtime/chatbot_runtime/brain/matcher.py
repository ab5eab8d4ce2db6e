"""Recognises keyword intents in a text. Pure: accents, case and punctuation do not count, and small typos are forgiven."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from rapidfuzz import fuzz

FUZZY_LEAST: Final = 88.0
"""Similarity of 100 from which a word counts as a keyword with a typo."""

FUZZY_LENGTH: Final = 5
"""Shorter keywords are never matched with typos: `hola` and `cola` differ by one letter."""

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
    """

    name: str
    locale: str
    keywords: tuple[str, ...]
    reply: str
    action: Literal["reply", "handoff"]
    rank: int


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
    """Return the best intent of a text, or None.

    An exact keyword beats one with a typo, then the intent's rank decides, then the language given, then the longer keyword.
    """
    folded = fold(text)
    if not folded:
        return None
    found = [hit for intent in intents if (hit := _hit(folded, intent)) is not None]
    return min(
        found, key=lambda hit: (not hit.exact, hit.intent.rank, hit.intent.locale != locale, -hit.length, hit.intent.name), default=None
    )


def _hit(folded: str, intent: Intent) -> Match | None:
    keywords = [fold(keyword) for keyword in intent.keywords]
    exact = [keyword for keyword in keywords if keyword and f" {keyword} " in f" {folded} "]
    if exact:
        return Match(intent, exact=True, length=max(map(len, exact)))
    words = folded.split()
    similar = [keyword for keyword in keywords if len(keyword) >= FUZZY_LENGTH and _is_similar(keyword, words)]
    return Match(intent, exact=False, length=max(map(len, similar))) if similar else None


def _is_similar(keyword: str, words: list[str]) -> bool:
    """Compare a keyword with every run of as many words."""
    size = keyword.count(" ") + 1
    runs = (" ".join(words[start : start + size]) for start in range(len(words) - size + 1))
    return any(fuzz.ratio(keyword, run) >= FUZZY_LEAST for run in runs)
