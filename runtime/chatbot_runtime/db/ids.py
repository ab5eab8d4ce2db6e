"""Ids that sort by time (UUID version 7, RFC 9562), so that new rows lie together in every index and sort as they came."""

import secrets
import time
from datetime import UTC, datetime
from uuid import UUID

_VERSION = 7 << 76
_VARIANT = 2 << 62
_CLEAR = ~((0xF << 76) | (0x3 << 62))


class _Last:
    """The newest id of this process: ids of one millisecond count up instead of being random, so their order is that of creation."""

    value = 0


def uuid7() -> UUID:
    """Return 48 bits of Unix milliseconds, then randomness; each id is greater than the one before in this process."""
    fresh = ((time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)) & _CLEAR | _VERSION | _VARIANT
    if fresh <= _Last.value:
        # The low 62 bits are plain randomness; counting there leaves version and variant alone (a carry is 2**-50 unlikely).
        fresh = _Last.value + 1 + secrets.randbits(16)
    _Last.value = fresh
    return UUID(int=fresh)


def first_id(at: datetime) -> UUID:
    """Return the least UUID version 7 of a moment, so that an index on ids finds what came since."""
    return UUID(int=int(at.astimezone(UTC).timestamp() * 1000) << 80)
