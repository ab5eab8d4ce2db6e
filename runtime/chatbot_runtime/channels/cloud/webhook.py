"""Understands Cloud API webhooks. Pure: bytes in, plain values out; what it does not know is kept, never dropped and never an error.

A body may hold many changes. Fields of `messages` and `statuses` are those of the provider's documentation; since 2026 a contact may have
a business-scoped user id (`user_id`) and no phone number.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, cast, get_args
from uuid import UUID

import orjson

from chatbot_runtime.queue.inbound import Inbound, InboundMessage, InboundStatus, StatusName, Unrecognised

ID_MAX: Final = 512
"""Longest provider id or alias; PostgreSQL could not index much longer ones."""

BODY_MAX: Final = 65_536
LEVELS_MAX: Final = 100
"""Levels of nesting that are kept. Parsers go to about 1000, encoders to 250, and what we store adds a few."""

_STATUSES: Final = frozenset(get_args(StatusName))


class NotAWebhook(ValueError):
    """The body is not a JSON object, or nested too deeply to be kept."""


def channel_of(phone_number_id: str) -> str:
    """Return the id of a cloud channel."""
    return f"cloud:{phone_number_id}"


def parse_webhook(body: bytes, phone_number_id: str) -> Inbound:
    """Understand a webhook.

    Args:
        body: the raw body, whose signature is already checked.
        phone_number_id: the number we serve; what belongs to another one is kept as not understood.

    Raises:
        NotAWebhook: the body is not a JSON object, or more than `LEVELS_MAX` levels deep.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise NotAWebhook("the body is not JSON") from error
    if not isinstance(document, dict):
        raise NotAWebhook("the body is not a JSON object")
    if body.count(b"[") + body.count(b"{") > LEVELS_MAX and _depth(document) > LEVELS_MAX:
        raise NotAWebhook("the body is nested too deeply")
    found = list(_understand(document, phone_number_id))
    return Inbound(
        tuple(item for item in found if isinstance(item, InboundMessage)),
        tuple(item for item in found if isinstance(item, InboundStatus)),
        tuple(item for item in found if isinstance(item, Unrecognised)),
    )


def _depth(document: Any) -> int:
    """Return how many levels a document has."""
    level, depth = [document], 0
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return depth


Item = InboundMessage | InboundStatus | Unrecognised


def _understand(document: Mapping[str, Any], phone_number_id: str) -> Iterator[Item]:
    changes = [change for entry in _dicts(document.get("entry")) for change in _dicts(entry.get("changes"))]
    if document.get("object") != "whatsapp_business_account" or not changes:
        yield Unrecognised("not a WhatsApp change", document)
        return
    for change in changes:
        value = change.get("value")
        if change.get("field") != "messages" or not isinstance(value, dict):
            yield Unrecognised(f"field {_text(change.get('field'))[:64]!r} is not handled", change)
        elif _text(_dict(value.get("metadata")).get("phone_number_id")) != phone_number_id:
            yield Unrecognised("for another phone number", change)
        else:
            yield from _change(value, channel_of(phone_number_id))


def _change(value: Mapping[str, Any], channel: str) -> Iterator[Item]:
    contacts = _dicts(value.get("contacts"))
    messages, statuses = _list(value.get("messages")), _list(value.get("statuses"))
    for raw in messages:
        yield _message(raw, contacts, channel) or Unrecognised("a message without id or sender", raw)
    for raw in statuses:
        yield _status(raw, channel) or Unrecognised("a status that is not known", raw)
    if not messages and not statuses:
        yield Unrecognised("neither messages nor statuses", dict(value))


def _message(raw: Any, contacts: list[dict[str, Any]], channel: str) -> InboundMessage | None:
    message = _dict(raw)
    provider_id, wa_id = _id(message.get("id")), _id(message.get("from"))
    bsuid = _id(message.get("from_user_id")) or _id(message.get("user_id"))
    contact = _contact(contacts, wa_id, bsuid)
    bsuid = bsuid or _id(contact.get("user_id"))
    wa_id = wa_id or _id(contact.get("wa_id"))
    if provider_id is None or (wa_id is None and bsuid is None):
        return None
    kind = _text(message.get("type"))[:64] or "unknown"
    return InboundMessage(
        channel=channel,
        provider_id=provider_id,
        wa_id=wa_id,
        bsuid=bsuid,
        name=_text(_dict(contact.get("profile")).get("name"))[:256],
        kind=kind,
        body=_body(message, kind)[:BODY_MAX],
        payload=None if kind == "text" and "context" not in message else message,
        sent_at=_time(message.get("timestamp")),
    )


def _contact(contacts: list[dict[str, Any]], wa_id: str | None, bsuid: str | None) -> dict[str, Any]:
    """Return the entry of `contacts` that belongs to a message; a single one belongs to all."""
    for contact in contacts:
        if (bsuid and contact.get("user_id") == bsuid) or (wa_id and contact.get("wa_id") == wa_id):
            return contact
    return contacts[0] if len(contacts) == 1 and (wa_id is None and bsuid is None) else {}


def _body(message: Mapping[str, Any], kind: str) -> str:
    """Return what a person would read as the message's text."""
    part = _dict(message.get(kind))
    if kind == "text":
        return _text(part.get("body"))
    if kind == "button":
        return _text(part.get("text"))
    if kind == "interactive":
        reply = _dict(part.get("button_reply")) or _dict(part.get("list_reply"))
        return _text(reply.get("title"))
    return _text(part.get("caption"))


def _status(raw: Any, channel: str) -> InboundStatus | None:
    status = _dict(raw)
    provider_id, name = _id(status.get("id")), status.get("status")
    if provider_id is None or name not in _STATUSES:
        return None
    errors = _dicts(status.get("errors"))
    error = errors[0] if errors else {}
    code = error.get("code")
    return InboundStatus(
        channel=channel,
        provider_id=provider_id,
        token=_token(status.get("biz_opaque_callback_data")),
        status=cast("StatusName", name),
        at=_time(status.get("timestamp")),
        error_code=code if isinstance(code, int) and abs(code) < 2**31 else None,
        error=_text(error.get("title") or error.get("message"))[:512],
    )


def _token(value: Any) -> UUID | None:
    try:
        return UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _time(value: Any) -> datetime | None:
    try:
        return datetime.fromtimestamp(int(value), UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _id(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= ID_MAX and "\0" not in value else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in _list(value) if isinstance(item, dict)]
