"""JSON logs on stderr with the id of the pass, and a filter that no secret gets through."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import orjson
import structlog

REDACTED: Final = "[redacted]"

SECRET_KEY: Final = re.compile(
    r"passw(or)?d|secret|token|authorization|credential|private[-_]?key|jwt|cookie|api[-_]?key|dsn", re.IGNORECASE
)
"""Keys whose whole value is dropped. The operator keeps no secret value, so this guards against what libraries log."""
SAFE_KEYS: Final = frozenset({"secret_name", "secret_names"})
"""Names of Secret objects are no secrets and are needed to repair things."""

SECRET_TEXT: Final = (
    re.compile(r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{8,}"),
    re.compile(r"(?i)(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"),
    re.compile(r"\beyJ[a-zA-Z0-9_-]{8,}\.[a-zA-Z0-9_-]{8,}\.[a-zA-Z0-9_-]*"),
    re.compile(r"(?i)(?<=password=)[^\s&;,'\"]+"),
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
)
"""Shapes of secrets inside text: HTTP credentials, user:password in an URL, JWTs, `password=…`, PEM keys."""


def redact(value: Any) -> Any:
    """Return `value` with everything that looks like a secret replaced; containers are copied, other types pass unchanged."""
    if isinstance(value, str):
        for pattern in SECRET_TEXT:
            value = pattern.sub(REDACTED, value)
        return value
    if isinstance(value, dict):
        return {key: REDACTED if _is_secret_key(key) and item is not None else redact(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item) for item in value]
    return value


def _is_secret_key(key: Any) -> bool:
    return isinstance(key, str) and key not in SAFE_KEYS and SECRET_KEY.search(key) is not None


def redact_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Apply `redact` to a whole log record (structlog processor). Runs last but the renderer, so that tracebacks pass through it too."""
    return redact(dict(event))  # type: ignore[no-any-return] # a dict comes back for a dict


def _to_json(record: Any, **_: Any) -> str:
    return orjson.dumps(record, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def configure(level: str, **fields: str) -> None:
    """Send all logs, our own and those of libraries, as one JSON object a line to stderr.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        fields: Constant fields of every line, for example the pod's name.
    """
    number = getattr(logging, level.upper())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(number),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(allow={"settings"})],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                redact_event,
                structlog.processors.JSONRenderer(serializer=_to_json),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(number)
    for noisy in ("kopf", "aiohttp.access", "asyncio"):
        logging.getLogger(noisy).setLevel(max(number, logging.WARNING))
    structlog.contextvars.bind_contextvars(**fields)
