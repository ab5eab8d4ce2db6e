"""The Cloud API's webhook. Its 200 is a promise: what was delivered is durable. Anything else makes the provider keep it and try again.

One statement stores a delivery. If the database refuses it, each item is stored by itself, so a bad one never takes a good one with it.
"""

import hmac
import re
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Final

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from pydantic import SecretStr

from chatbot_runtime import metrics
from chatbot_runtime.api.mend import mend_json
from chatbot_runtime.api.services import services_of
from chatbot_runtime.channels.cloud.webhook import NotAWebhook, parse_webhook
from chatbot_runtime.errors import Refused
from chatbot_runtime.queue.inbound import Inbound, Unrecognised
from chatbot_runtime.queue.intake import REFUSALS, Intake, cause_of
from chatbot_runtime.redis.wake import Topic

PATH: Final = "/webhooks/cloud"
SIGNATURE_HEADER: Final = "x-hub-signature-256"
CHALLENGE_MAX: Final = 256
_SIGNATURE: Final = re.compile(r"sha256=[0-9a-f]{64}")

log = structlog.get_logger(__name__)


def add(app: FastAPI) -> None:
    """Register the routes."""
    app.get(PATH, tags=["webhooks"], response_class=Response)(verify)
    app.post(PATH, tags=["webhooks"], response_class=Response)(receive)


async def verify(request: Request) -> Response:
    """Confirm the subscription: echo `hub.challenge` to who knows the verify token."""
    query = request.query_params
    expected = _secret(services_of(request).settings.wa_verify_token)
    presented = query.get("hub.verify_token", "").encode()
    challenge = query.get("hub.challenge", "")
    if query.get("hub.mode") != "subscribe" or not hmac.compare_digest(expected, presented) or len(challenge) > CHALLENGE_MAX:
        raise Refused(403, "verification", "The mode or the verify token is wrong.")
    return Response(challenge, media_type="text/plain")


async def receive(request: Request) -> Response:
    """Take in a delivery signed with the app secret; 200 only when it is durable, and just once however often it is repeated."""
    started = time.perf_counter()
    services = services_of(request)
    key = _secret(services.settings.wa_app_secret)
    presented = request.headers.get(SIGNATURE_HEADER, "")
    # A stranger's megabytes are not even read: no body can match what does not look like a signature.
    body = await request.body() if _SIGNATURE.fullmatch(presented) else None
    if body is None or not signature_matches(key, body, presented):
        metrics.WEBHOOK_SIGNATURE_FAILURES.inc()
        raise Refused(401, "invalid-signature", "X-Hub-Signature-256 does not match the body.")
    try:
        inbound = _understand(body, services.settings.wa_phone_number_id or "")
    except NotAWebhook as error:
        metrics.WEBHOOK_EVENTS.labels(kind="unknown", result="refused").inc()
        raise Refused(400, "not-json", f"Not a webhook: {error}.") from None
    await _store(services.intake, inbound)
    if inbound.messages:
        services.wakes.soon(Topic.INBOUND)
    if inbound.statuses:
        services.wakes.soon(Topic.STATUS)
    metrics.WEBHOOK_ACK_SECONDS.observe(time.perf_counter() - started)
    return Response(status_code=200)


def signature_matches(key: bytes, body: bytes, presented: str) -> bool:
    """Compare `sha256=<hex>` with the body's HMAC in constant time.

    Args:
        key: app secret.
        body: raw body, exactly as received.
        presented: the header's value, of the form that a signature has.
    """
    return hmac.compare_digest("sha256=" + hmac.digest(key, body, "sha256").hex(), presented)


def _understand(body: bytes, number: str) -> Inbound:
    """Parse a delivery, mended if need be.

    Raises:
        NotAWebhook: it is no JSON object even so.
    """
    try:
        return parse_webhook(body, number)
    except NotAWebhook as error:
        mended = mend_json(body)
        if mended is None:
            raise
        log.warning("webhook_mended", problem=str(error))
        return parse_webhook(mended, number)


async def _store(intake: Intake, inbound: Inbound) -> None:
    """Store a delivery, item by item if need be.

    Raises:
        Refused: 503 if an item can't be kept at all, so that the provider keeps it; all others are stored.
    """
    try:
        await intake.store(inbound)
    except REFUSALS as error:
        log.warning("webhook_split", cause=cause_of(error), messages=len(inbound.messages), statuses=len(inbound.statuses))
        kept = [await _store_alone(intake, item) for item in _items(inbound)]
        if not all(kept):
            raise Refused(503, "not-stored", "A part of the delivery can't be stored now.", retry_after=60) from None


async def _store_alone(intake: Intake, item: Inbound) -> bool:
    """Store one item; one that the database refuses is kept as it came.

    Returns:
        Whether it is stored in one way or the other.
    """
    try:
        await intake.store(item)
    except REFUSALS as error:
        metrics.WEBHOOK_EVENTS.labels(kind="unknown", result="refused").inc()
        try:
            raw = Unrecognised(f"refused by the database ({cause_of(error)})", orjson.loads(orjson.dumps(asdict(item))))
            await intake.store(Inbound(unrecognised=(raw,)))
        except (*REFUSALS, orjson.JSONEncodeError) as last:
            log.warning("webhook_not_stored", cause=cause_of(last))
            return False
    return True


def _items(inbound: Inbound) -> Iterator[Inbound]:
    yield from (Inbound(messages=(item,)) for item in inbound.messages)
    yield from (Inbound(statuses=(item,)) for item in inbound.statuses)
    yield from (Inbound(unrecognised=(item,)) for item in inbound.unrecognised)


def _secret(value: SecretStr | None) -> bytes:
    """Return a key, or refuse: without a configured cloud channel nothing can prove itself, and an empty key would let everybody in."""
    if value is None or not value.get_secret_value():
        raise Refused(404, "no-cloud-channel", "No Cloud API channel is configured.")
    return value.get_secret_value().encode()
