"""The arithmetic of the hash chain. Pure.

hash(n) = SHA-256(hash(n-1) || canonical JSON of event n),  hash(0) = 32 zero bytes
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC
from typing import Any, Final

import orjson

GENESIS: Final = bytes(32)

FIELDS: Final = ("id", "at", "actor_kind", "actor", "action", "outcome", "target", "ip", "request_id", "details")
"""Columns that the hash covers: all of them."""


def canonical(event: Mapping[str, Any]) -> bytes:
    """Return an event as JSON with sorted keys and no spaces; the time is UTC with microseconds.

    Args:
        event: a row of `audit_events`, read back from the database, whose JSONB has already normalised `details`.
    """
    chosen = {name: event[name] for name in FIELDS}
    chosen["at"] = event["at"].astimezone(UTC).isoformat(timespec="microseconds")
    return orjson.dumps(chosen, option=orjson.OPT_SORT_KEYS)


def next_hash(previous: bytes, event: Mapping[str, Any]) -> bytes:
    """Return the hash of an event that follows `previous`."""
    return hashlib.sha256(previous + canonical(event)).digest()
