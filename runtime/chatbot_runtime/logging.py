"""JSON logs on standard output, in which no loaded secret and no whole phone number can appear (runbook section 18).

Redaction works on the finished line, so it also covers tracebacks and libraries that format a secret into a message.
"""

import base64
import json
import logging
import re
import sys
from collections.abc import Iterable, MutableMapping
from types import TracebackType
from typing import Any
from urllib.parse import quote, quote_plus

import structlog

from chatbot_runtime.settings import Role, Settings

MASK = "[redacted]"
LEAST_REDACTED = 4
"""A shorter secret would match by chance in most lines; the rules of `secretrules` refuse it anyway where we choose."""

_PHONE = re.compile(r"(?<![\w.:/-])\+?\d{6,11}(?=\d{4}(?![\w-]))")
"""All but the last four of 10 to 15 digits that stand alone, so ids with letters, times and addresses stay readable."""


_VALUES = re.compile(r"(\[parameters: |DETAIL: +).*")
"""Where SQLAlchemy and asyncpg put the values of a failed statement into its error: texts and names of contacts."""


def secret_forms(value: str) -> set[str]:
    """Return the shapes in which a secret may turn up: as it is, URL-encoded, JSON-escaped, base64 at each of three alignments."""
    raw = value.encode()
    forms = {
        value,
        quote(value, safe=""),
        quote(value),
        quote_plus(value),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
    }
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + raw).decode().rstrip("=")
        # The first characters mix with what stands before, the last with what follows: only those between are sure.
        first = (offset * 8 + 5) // 6
        last = (offset + len(raw)) * 8 // 6
        if last - first >= LEAST_REDACTED:
            forms |= {encoded[first:last], encoded[first:last].translate(str.maketrans("+/", "-_"))}
    return {form for form in forms if len(form) >= LEAST_REDACTED}


class Redactor:
    """Replaces every form of the given secrets in a text."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for value in secrets for form in secret_forms(value)}
        # Longest first, so that a URL is masked whole and not only its password.
        self._pattern = re.compile("|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))) if forms else None

    def __call__(self, text: str) -> str:
        """Return the text without secrets."""
        return self._pattern.sub(MASK, text) if self._pattern else text


def mask_phones(value: Any) -> Any:
    """Return the value with phone numbers in its strings reduced to their last four digits."""
    if isinstance(value, str):
        return _PHONE.sub("…", value)
    if isinstance(value, dict):
        return {key: mask_phones(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [mask_phones(item) for item in value]
    return value


def _mask_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if key != "timestamp":
            event[key] = mask_phones(value)
    if isinstance(trace := event.get("exception"), str):
        event["exception"] = _VALUES.sub(r"\1[withheld]", trace)
    return event


def configure_logging(settings: Settings, role: Role) -> None:
    """Send structlog and the standard library's loggers to standard output as JSON.

    Args:
        settings: whose level is used and whose secrets are redacted.
        role: put into each line.
    """
    redact = Redactor(settings.secret_values())
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]

    def render(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
        event.update(role=role.value, instance=settings.instance_name, version=settings.release_version)
        return redact(str(structlog.processors.JSONRenderer()(logger, method, event)))

    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _mask_event,
                render,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    for name in ("uvicorn.access", "aiohttp.access"):
        logging.getLogger(name).disabled = True  # our middleware logs requests, with an id and without query strings
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # it tells of every socket that opens or closes
    sys.excepthook = _log_uncaught


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Log what would otherwise reach standard error unredacted."""
    logging.getLogger("chatbot_runtime").critical("uncaught", exc_info=(kind, error, trace))
