"""The wire format of the WhatsApp Cloud API: error codes, message ids, what a send must hold, what webhooks say."""

import base64
import hashlib
import secrets
import time
from typing import Any

Json = dict[str, Any]

ERRORS: dict[int, tuple[int, str]] = {
    0: (401, "AuthException"),
    1: (400, "API Unknown"),
    2: (503, "API Service"),
    3: (500, "API Method"),
    4: (429, "API Too Many Calls"),
    10: (403, "Permission Denied"),
    100: (400, "Invalid parameter"),
    190: (401, "Access token has expired"),
    200: (403, "API Permission"),
    368: (403, "Temporarily blocked for policies violations"),
    80007: (429, "Rate limit issues"),
    130429: (429, "Rate limit hit"),
    130472: (400, "User's number is part of an experiment"),
    131000: (500, "Something went wrong"),
    131005: (403, "Access denied"),
    131008: (400, "Required parameter is missing"),
    131009: (400, "Parameter value is not valid"),
    131016: (500, "Service unavailable"),
    131021: (400, "Recipient cannot be sender"),
    131026: (400, "Message undeliverable"),
    131030: (400, "Recipient phone number not in allowed list"),
    131031: (403, "Account has been locked"),
    131042: (400, "Business eligibility payment issue"),
    131045: (500, "Incorrect certificate"),
    131047: (400, "Re-engagement message"),
    131048: (400, "Spam rate limit hit"),
    131049: (400, "This message was not delivered to maintain healthy ecosystem engagement"),
    131050: (400, "User has stopped marketing messages"),
    131051: (400, "Unsupported message type"),
    131056: (429, "Pair rate limit hit"),
    131057: (500, "Account in maintenance mode"),
    131064: (403, "Messaging limit reached"),
    132000: (400, "Template param count mismatch"),
    132001: (404, "Template does not exist"),
    132016: (400, "Template is disabled"),
}
"""Provider error code -> HTTP status and title."""

_TYPES = {"text", "template", "interactive", "image", "document", "audio", "video", "sticker", "location", "contacts", "reaction"}
_ACCOUNT = "102290129340398"


def make_wamid(phone: str) -> str:
    """Return a message id in the provider's form: base64 of a record that holds the phone and a random part."""
    digits = phone.lstrip("+").encode()
    record = b"\x1d\x18" + bytes([len(digits)]) + digits + b"\x15\x02\x00\x11\x18\x12" + secrets.token_hex(9).upper().encode() + b"\x00"
    return "wamid." + base64.b64encode(record).decode()


def timestamp() -> str:
    """Return now as the provider writes it: seconds since 1970, as text."""
    return str(int(time.time()))


def find_refusal(body: Any) -> tuple[int, str] | None:
    """Return why a send is wrong in itself: code and details."""
    if not isinstance(body, dict) or body.get("messaging_product") != "whatsapp":
        return 100, "messaging_product must be whatsapp."
    if body.get("status") == "read":
        return None if isinstance(body.get("message_id"), str) else (131008, "message_id is required.")
    if not isinstance(body.get("to"), str) or not body["to"].lstrip("+").isdigit():
        return 131009, "Recipient is not a valid phone number."
    kind = body.get("type", "text")
    if kind not in _TYPES:
        return 131051, f"Message type {kind} is not supported."
    if not isinstance(body.get(kind), dict | list):
        return 131008, f"{kind} is required."
    if len(str(body.get("biz_opaque_callback_data", ""))) > 512:
        return 100, "biz_opaque_callback_data is too long."
    if kind == "text" and not 0 < len(str(body["text"].get("body", ""))) <= 4096:
        return 100, "text.body must have 1 to 4096 characters."
    return None


def _error_object(code: int, details: str = "") -> Json:
    title = ERRORS[code][1]
    return {"code": code, "title": title, "message": title, "error_data": {"details": details or title}}


def render_status(wamid: str, body: Json, status: str, code: int) -> Json:
    """Return one status of a send; `failed` carries the error code."""
    result: Json = {"id": wamid, "status": status, "timestamp": timestamp(), "recipient_id": body["to"].lstrip("+")}
    if "biz_opaque_callback_data" in body:
        result["biz_opaque_callback_data"] = body["biz_opaque_callback_data"]
    if status == "failed":
        result["errors"] = [_error_object(code)]
    elif status in ("sent", "delivered"):
        result["conversation"] = {"id": hashlib.md5(body["to"].encode(), usedforsecurity=False).hexdigest(), "origin": {"type": "service"}}
        result["pricing"] = {"billable": False, "pricing_model": "PMP", "category": "service", "type": "free_customer_service"}
    return result


def render_error(code: int, details: str = "") -> Json:
    """Return the body of a refused send."""
    title = ERRORS[code][1]
    error = {
        "message": f"(#{code}) {title}",
        "type": "OAuthException",
        "code": code,
        "error_data": {"messaging_product": "whatsapp", "details": details or title},
        "fbtrace_id": "A" + secrets.token_urlsafe(16),
    }
    return {"error": error}


def render_event(phone_number_id: str, display_phone_number: str, value: Json) -> Json:
    """Return the body of a webhook: `value` holds messages or statuses."""
    metadata = {"display_phone_number": display_phone_number, "phone_number_id": phone_number_id}
    change = {"value": {"messaging_product": "whatsapp", "metadata": metadata, **value}, "field": "messages"}
    return {"object": "whatsapp_business_account", "entry": [{"id": _ACCOUNT, "changes": [change]}]}


def render_text(sender: str, text: str, *, message_id: str, name: str) -> Json:
    """Return the value of a webhook with one text of a person."""
    message = {"from": sender, "id": message_id, "timestamp": timestamp(), "type": "text", "text": {"body": text}}
    return {"contacts": [{"profile": {"name": name}, "wa_id": sender}], "messages": [message]}
