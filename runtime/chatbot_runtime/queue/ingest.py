"""Durable intake of a webhook: once this returns, nothing of it can be lost, and a repeat changes nothing."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from chatbot_runtime import metrics
from chatbot_runtime.db.engine import fetch_row
from chatbot_runtime.db.ids import uuid7
from chatbot_runtime.errors import RuntimeFault
from chatbot_runtime.queue.inbound import Inbound, InboundMessage, InboundStatus

_INGEST = "SELECT stored, repeated, statuses, raw FROM ingest_v1($1::jsonb, $2::jsonb, $3::jsonb, make_interval(secs => $4))"


class NotJson(RuntimeFault):
    """Something in a delivery has no form in JSON."""


@dataclass(frozen=True, slots=True)
class Ingested:
    """How many messages were new, how many were known already, and how many statuses and unknown events were kept."""

    stored: int
    repeated: int
    statuses: int
    raw: int


async def record_inbound(conn: AsyncConnection, inbound: Inbound, *, quiet_s: float = 0.0) -> Ingested:
    """Store a delivery: message, inbox row and lane of each new message, statuses for the applier, the rest as it came.

    It is one statement that costs one round trip and is durable when this returns. Repeating it is harmless: (channel, provider id) is
    unique, and statuses only ever move a message forward.

    Args:
        conn: from `db.engine.autocommit`, which turns an outage into DatabaseDown.
        inbound: what the channel understood.
        quiet_s: seconds after a first message in which the bot waits for more of the same chat, to answer them in one turn.

    Raises:
        ValueError: the connection is not in autocommit mode.
        NotJson: something in it has no form in JSON, and nothing was stored.
        DBAPIError: the database refuses something in it, and nothing was stored.
    """
    row = await fetch_row(
        conn,
        _INGEST,
        _json([_message(item) for item in inbound.messages]),
        _json([_status(item) for item in inbound.statuses]),
        _json([{"reason": item.reason, "payload": item.payload} for item in inbound.unrecognised]),
        quiet_s,
    )
    result = Ingested(*(row or (0, 0, 0, 0)))
    _count(inbound, result)
    return result


def _message(item: InboundMessage) -> dict[str, Any]:
    return {
        "id": str(uuid7()),
        "channel": item.channel,
        "provider_id": item.provider_id,
        "wa_id": item.wa_id,
        "bsuid": item.bsuid,
        "name": item.name,
        "kind": item.kind,
        "body": item.body,
        "payload": item.payload,
        "sent_at": _time(item.sent_at),
    }


def _status(item: InboundStatus) -> dict[str, Any]:
    return {
        "channel": item.channel,
        "provider_id": item.provider_id,
        "token": None if item.token is None else str(item.token),
        "status": item.status,
        "at": _time(item.at),
        "error_code": item.error_code,
        "error": item.error,
    }


def _time(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()


def _json(value: Any) -> str:
    """Return JSON that PostgreSQL accepts: it has no way to store a NUL character."""
    try:
        text = orjson.dumps(value).decode()
    except orjson.JSONEncodeError as error:
        raise NotJson(str(error)) from error
    return orjson.dumps(_without_nul(value)).decode() if "\\u0000" in text else text


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, list):
        return [_without_nul(item) for item in value]
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    return value


def _count(inbound: Inbound, result: Ingested) -> None:
    if result.stored:
        metrics.LAST_INBOUND.set_to_current_time()
    metrics.WEBHOOK_EVENTS.labels(kind="message", result="stored").inc(result.stored)
    metrics.WEBHOOK_EVENTS.labels(kind="message", result="repeated").inc(result.repeated)
    metrics.WEBHOOK_EVENTS.labels(kind="status", result="stored").inc(result.statuses)
    metrics.WEBHOOK_EVENTS.labels(kind="unknown", result="stored").inc(result.raw)
    metrics.DUPLICATES_SUPPRESSED.labels(direction="inbound").inc(result.repeated)
    if inbound.messages:
        channel = inbound.messages[0].channel.partition(":")[0]
        metrics.MESSAGES.labels(channel=channel, direction="inbound", status="received").inc(result.stored)
