"""Waiting times between tries: growing, bounded, and spread by the instance's uid, so that a thousand instances don't try at once."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Final

FIRST_SECONDS: Final = 2.0
LONGEST_SECONDS: Final = 300.0
STUCK_SECONDS: Final = 600.0
"""Where only a person can help: looked at now and then all the same, so that help is noticed."""
_JITTER: Final = 1.25
_FURTHEST: Final = timedelta(seconds=STUCK_SECONDS * _JITTER + 1)
"""Longest delay, with the second that a stored time is rounded up."""


def decide_delay(uid: str, attempt: int, *, stuck: bool = False) -> float:
    """Return seconds until the next try.

    Args:
        uid: Of the instance; with the attempt it decides the jitter of up to a quarter.
        attempt: Failed tries so far, from 1.
        stuck: Whether waiting can't help.
    """
    base = STUCK_SECONDS if stuck else min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(attempt - 1, 16))
    drawn = hashlib.blake2b(f"{uid}/{attempt}".encode(), digest_size=4).digest()
    return base * (1 + int.from_bytes(drawn, "big") / 2**32 * (_JITTER - 1))


def format_time(moment: datetime) -> str:
    """Return RFC 3339 in UTC with whole seconds, rounded up, so that a stored time is never before the real one."""
    if moment.microsecond:
        moment = moment.replace(microsecond=0) + timedelta(seconds=1)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str | None) -> datetime | None:
    """Return the moment that a stored time means; None where there is none or it can't be read, which means now."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def parse_due(text: str | None, now: datetime) -> datetime | None:
    """Return when a stored time falls due, as `parse_time`, but `now` for one that lies further ahead than any delay.

    Such a time was written by a clock that ran ahead and was put back since; waiting for it could take years.
    """
    moment = parse_time(text)
    return now if moment is not None and moment - now > _FURTHEST else moment
