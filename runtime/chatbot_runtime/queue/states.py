"""The life of an outgoing message as a table. Pure.

queued -> sending -> sent -> delivered -> read
                  -> queued (retry)   failed   dead (given up)
                  -> unknown -> sent | failed | held | queued (policy `resend`)
queued -> cancelled | expired | sent (an earlier attempt did arrive)        held | dead -> queued | cancelled | sent (a person decides)
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """`messages.status` of an outgoing message."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    FAILED = "failed"
    UNKNOWN = "unknown"
    HELD = "held"
    DEAD = "dead"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Origin(StrEnum):
    """Who wrote a message: inbound from the contact, or outbound by a person, the bot, or a mass sending."""

    CONTACT = "contact"
    HUMAN = "human"
    BOT = "bot"
    BULK = "bulk"


PRIORITY: Final[Mapping[Origin, int]] = {Origin.HUMAN: 0, Origin.BOT: 1, Origin.BULK: 2}
"""Lower is sent first, within a chat and between chats."""

_ACCEPTED: Final = frozenset({Status.SENT, Status.DELIVERED, Status.READ})

TRANSITIONS: Final[Mapping[Status, frozenset[Status]]] = {
    # Accepted: a status of an earlier attempt came after all, so that it need not be sent again.
    Status.QUEUED: frozenset({Status.SENDING, Status.CANCELLED, Status.EXPIRED}) | _ACCEPTED,
    Status.SENDING: frozenset({Status.QUEUED, Status.FAILED, Status.UNKNOWN, Status.DEAD}) | _ACCEPTED,
    Status.UNKNOWN: frozenset({Status.QUEUED, Status.FAILED, Status.HELD}) | _ACCEPTED,
    Status.HELD: frozenset({Status.QUEUED, Status.CANCELLED, Status.FAILED}) | _ACCEPTED,
    Status.DEAD: frozenset({Status.QUEUED, Status.CANCELLED, Status.FAILED}) | _ACCEPTED,
    Status.SENT: frozenset({Status.DELIVERED, Status.READ, Status.FAILED}),
    Status.DELIVERED: frozenset({Status.READ}),
    Status.READ: frozenset(),
    # A resend after a failure that was not final, or one of the contact's devices failing first: what arrived counts.
    Status.FAILED: _ACCEPTED - {Status.SENT},
    Status.CANCELLED: _ACCEPTED,
    Status.EXPIRED: _ACCEPTED,
}


def may_become(now: Status, then: Status) -> bool:
    """Whether a message may go from one status to another: forward only, so a late `delivered` never hides a `read`."""
    return then in TRANSITIONS[now]
