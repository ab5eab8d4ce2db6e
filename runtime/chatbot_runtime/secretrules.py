"""When a secret is too weak to start with. Kept apart so that the rules are read, tested and changed in one place."""

from collections.abc import Mapping

MINIMUM: Mapping[str, int] = {"jwt_secret": 32, "admin_password": 12, "wa_app_secret": 16, "wa_verify_token": 8, "wa_access_token": 8}
"""Least number of characters; a secret of another system (database, Redis) has that system's rules."""

WELL_KNOWN = frozenset({
    "admin", "admin123", "administrator", "change-me", "change_me", "changeit", "changeme", "chatbot", "default",
    "example", "letmein", "passw0rd", "password", "password1", "password123", "postgres", "qwerty", "redis",
    "root", "secret", "secret123", "test", "thisisinsecure", "welcome", "your-secret-key", "your_secret_key", "yoursecretkey",
})  # fmt: skip
"""Values that ship in samples, so an attacker tries them first. Compared without case, and also when repeated to reach a length."""

LEAST_DISTINCT = 6
"""A long secret of fewer different characters was typed to satisfy a length rule."""


def check_secret(name: str, value: str) -> None:
    """Refuse a secret that is well known, too short or monotonous.

    Raises:
        ValueError: a sentence that names the rule and never the value.
    """
    least = MINIMUM.get(name, 0)
    if len(value) < least:
        raise ValueError(f"is too short: at least {least} characters are needed")
    if any(ord(char) < 32 for char in value):
        raise ValueError("holds a control character, most likely a line break in the middle")
    if _is_well_known(value.casefold()):
        raise ValueError("is a well-known default; generate a random one")
    if least and len(set(value)) < min(LEAST_DISTINCT, least):
        raise ValueError("repeats the same few characters; generate a random one")


def _is_well_known(value: str) -> bool:
    """Whether the value is a sample value, possibly repeated or padded with digits and punctuation."""
    if value in WELL_KNOWN or value.strip("0123456789!.-_ ") in WELL_KNOWN:
        return True
    return any(len(value) > len(known) and value == (known * (len(value) // len(known) + 1))[: len(value)] for known in WELL_KNOWN)
