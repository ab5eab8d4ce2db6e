"""Turns an answer of the API server that is not a success into the typed error that says what to do about it."""

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from chatbot_operator.errors import (
    Conflict,
    FieldConflict,
    Forbidden,
    Gone,
    ImmutableFieldChanged,
    Invalid,
    KubeError,
    NotFound,
    NotServed,
    Throttled,
    Unavailable,
)

MAX_MESSAGE: Final = 512
"""Characters of the server's message that are kept; validation errors may quote whole objects."""

_IMMUTABLE: Final = re.compile(
    r"field is immutable|Forbidden: updates to \w+ spec|spec is immutable after creation|is forbidden.*immutable"
)
_DENIED: Final = re.compile(r"admission webhook \S+ denied the request|ValidatingAdmissionPolicy .* denied request", re.DOTALL)
"""A policy may refuse with the code of an invalid object, also where nothing is wrong with the object, such as a deletion."""
_SECRET_VALUE: Final = re.compile(r'Invalid value: (?:"(?:[^"\\]|\\.)*"|\{.*?\}|\S+)', re.DOTALL)
_MANAGER: Final = re.compile(r'conflict with "([^"]+)"')


def error_of(status: int, body: bytes, *, target: str, retry_after: str | None = None) -> KubeError:
    """Return the typed error of an answer.

    Args:
        status: HTTP status, not 2xx.
        body: The answer, normally a `Status` object.
        target: `Kind namespace/name`.
        retry_after: The header of that name.
    """
    parsed = _parse(body)
    message = _message(parsed, status)
    if status == 409:
        return _conflict(parsed, message, target)
    if status == 403 or (status in (400, 422) and _DENIED.search(message)):
        return Forbidden(message, quota="exceeded quota" in message, target=target)
    if status == 422:
        return _invalid(parsed, message, target)
    if status == 429:
        return Throttled(message, retry_after=_seconds(retry_after), target=target)
    if status == 404 and not _names_object(parsed):
        return NotServed("404 without the name of an object: the kind is not served, or a proxy answered", status=404, target=target)
    plain: type[KubeError] = {400: Invalid, 404: NotFound, 410: Gone}.get(status, Unavailable if status >= 500 else KubeError)
    return plain(message, status=status, target=target)


def status_error(status: Mapping[str, Any], *, target: str) -> KubeError:
    """Return the typed error of a `Status` object, as an ERROR event of a watch carries it."""
    code = status.get("code")
    return error_of(code if isinstance(code, int) else 500, orjson.dumps(status), target=target)


def _parse(body: bytes) -> Mapping[str, Any]:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _names_object(parsed: Mapping[str, Any]) -> bool:
    """Return whether the answer is the API server's own word that an object does not exist."""
    details = parsed.get("details")
    return parsed.get("kind") == "Status" and isinstance(details, dict) and bool(details.get("name"))


def _message(parsed: Mapping[str, Any], status: int) -> str:
    """Return the server's words without the values it refused: a refused value may be a secret."""
    text = parsed.get("message")
    if not isinstance(text, str) or not text:
        return f"the API server answered {status}"
    return _SECRET_VALUE.sub("Invalid value", text)[:MAX_MESSAGE]


def _causes(parsed: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    details = parsed.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    return [cause for cause in causes if isinstance(cause, dict)] if isinstance(causes, list) else []


def _conflict(parsed: Mapping[str, Any], message: str, target: str) -> KubeError:
    """Tell a conflict of field managers from a stale precondition; only the first names managers in its causes."""
    fields = [cause for cause in _causes(parsed) if cause.get("reason") == "FieldManagerConflict"]
    if not fields:
        return Conflict(message, status=409, target=target)
    found = (_MANAGER.search(str(cause.get("message", ""))) for cause in fields)
    return FieldConflict(message, managers=tuple(sorted({match[1] for match in found if match})), target=target)


def _invalid(parsed: Mapping[str, Any], message: str, target: str) -> KubeError:
    """Tell a failed uid precondition and a change of an immutable field from an invalid object.

    The API server reports a wrong `metadata.uid` as an immutable field, yet it means that another object has the name.
    """
    causes = _causes(parsed)
    if causes and all(cause.get("field") == "metadata.uid" for cause in causes):
        return Conflict("the object was replaced by another of the same name", status=409, target=target)
    if _IMMUTABLE.search(message) or any(_IMMUTABLE.search(str(cause.get("message", ""))) for cause in causes):
        return ImmutableFieldChanged(message, status=422, target=target)
    return Invalid(message, status=422, target=target)


def _seconds(header: str | None) -> float:
    """Return Retry-After in seconds; the API server only sends whole seconds."""
    return float(header) if header and header.isdigit() else 1.0
