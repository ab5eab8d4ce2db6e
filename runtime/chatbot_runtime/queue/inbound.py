"""What a channel hands to the queue: messages, statuses, and what nobody understood. Plain values."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

StatusName = Literal["sent", "delivered", "read", "failed"]


@dataclass(frozen=True, slots=True)
class InboundMessage:
    """A message of a contact.

    Attributes:
        channel: id of the channel, such as `cloud:1065`.
        provider_id: the provider's id; at most one row per channel has it.
        wa_id: phone number in digits, or None when the contact hides it.
        bsuid: business-scoped user id, or None; it is matched before `wa_id`. One of both is given.
        name: display name, may be empty.
        kind: the provider's type, such as `text`.
        body: text, caption or title; may be empty.
        payload: the provider's object, None for plain text.
        sent_at: when the contact sent it, if known.
    """

    channel: str
    provider_id: str
    wa_id: str | None
    bsuid: str | None
    name: str
    kind: str
    body: str
    payload: dict[str, Any] | None = None
    sent_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class InboundStatus:
    """What a provider says about a message of ours.

    Attributes:
        channel: id of the channel.
        provider_id: the provider's id of the message.
        token: our token of the attempt, if the provider returned one of ours.
        status: what happened.
        at: when.
        error_code: the provider's code of a failure.
        error: its text.
    """

    channel: str
    provider_id: str
    token: UUID | None
    status: StatusName
    at: datetime | None = None
    error_code: int | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Unrecognised:
    """Something that was delivered and not understood; it is kept as it came."""

    reason: str
    payload: Any


@dataclass(frozen=True, slots=True)
class Inbound:
    """Everything in one delivery."""

    messages: tuple[InboundMessage, ...] = field(default=())
    statuses: tuple[InboundStatus, ...] = field(default=())
    unrecognised: tuple[Unrecognised, ...] = field(default=())
