"""The frame around every request: id, limits of its body, security headers, log line, metrics, and the count that a drain waits for.

Plain ASGI, because it lies on the path of every webhook.
"""

import asyncio
import re
import time
from collections.abc import Iterable
from typing import Any, Final
from uuid import uuid4

import structlog
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatbot_runtime import metrics
from chatbot_runtime.api.problems import problem
from chatbot_runtime.lifecycle import Lifecycle

WEBHOOK_MAX: Final = 3 * 1024 * 1024
"""Bytes. The Cloud API's webhooks are documented as at most 3 MB."""
BODY_MAX: Final = 64 * 1024
"""Bytes of any other request."""
BODY_S: Final = 10.0
"""Seconds in which a body must have come: who sends it drop by drop holds a connection, and at the end a drain, for no longer."""

CSP: Final = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'; "
    "img-src 'self' data:; require-trusted-types-for 'script'"
)
_KEPT_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_QUIET = ("/livez", "/readyz", "/healthz", "/metrics", "/webhooks/", "/ui/")
"""Paths that are polled or flooded: their successes are counted, and logged only at debug level."""

log = structlog.get_logger(__name__)


class Frame:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, lifecycle: Lifecycle, *, https: bool) -> None:
        self._app = app
        self._lifecycle = lifecycle
        self._headers = _security_headers(https=https)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            if scope["type"] == "websocket":
                await self._app(scope, receive, send)
                return
            metrics.HTTP_IN_FLIGHT.inc()
            try:
                with self._lifecycle.work():
                    await self._http(scope, receive, send, request_id)
            finally:
                metrics.HTTP_IN_FLIGHT.dec()

    async def _http(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        started = time.perf_counter()
        code = 500
        api = scope["path"].startswith("/api/")

        async def framed_send(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
                message["headers"] = [*message["headers"], *self._answer_headers(request_id, code, api=api)]
            await send(message)

        limit = WEBHOOK_MAX if scope["path"].startswith("/webhooks/") else BODY_MAX
        try:
            if _declared_length(scope["headers"]) > limit:
                await _too_large(limit, request_id)(scope, receive, framed_send)
            else:
                await self._app(scope, _limited(receive, limit), framed_send)
        finally:
            _account(scope, code, time.perf_counter() - started)

    def _answer_headers(self, request_id: str, code: int, *, api: bool) -> Iterable[tuple[bytes, bytes]]:
        yield from self._headers
        yield b"x-request-id", request_id.encode()
        if api:
            yield b"cache-control", b"no-store"
        if code in (408, 413) or self._lifecycle.stopping.is_set():
            # 408, 413: the rest of the body will not be read. Stopping: the next request should go to another replica.
            yield b"connection", b"close"


def _security_headers(*, https: bool) -> list[tuple[bytes, bytes]]:
    headers = {
        "content-security-policy": CSP,
        "x-content-type-options": "nosniff",
        "referrer-policy": "same-origin",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=()",
    }
    if https:
        headers["strict-transport-security"] = "max-age=31536000"
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def _request_id(scope: Scope) -> str:
    """Keep a plausible id from a proxy, so that its logs and ours join; make one otherwise."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and (kept := _KEPT_ID.fullmatch(value.decode("latin-1"))):
            return kept.group()
    return uuid4().hex


def _declared_length(headers: Iterable[tuple[bytes, bytes]]) -> int:
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


def _too_large(limit: int, request_id: str) -> ASGIApp:
    return problem(413, "too-large", f"The body may have at most {limit} bytes.", request_id=request_id)


def _limited(receive: Receive, limit: int) -> Receive:
    """Return a `receive` that stops a body that is too slow, or too large without having said so."""
    seen, whole = 0, False
    deadline = asyncio.get_running_loop().time() + BODY_S

    async def limited() -> Message:
        nonlocal seen, whole
        if whole:  # what comes now is only that the client has left, which takes as long as the answer
            return await receive()
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, f"The body did not come within {BODY_S:g} s.") from None
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if seen > limit:
                raise HTTPException(413, f"The body may have at most {limit} bytes.")
        return message

    return limited


def _account(scope: Scope, code: int, seconds: float) -> None:
    route: Any = scope.get("route")
    label = "/ui" if scope["path"].startswith("/ui/") else getattr(route, "path", "unmatched")
    method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS") else "other"
    metrics.HTTP_REQUESTS.labels(method, label, code).inc()
    metrics.HTTP_SECONDS.labels(method, label).observe(seconds)
    quiet = code < 400 and scope["path"].startswith(_QUIET)
    write = log.debug if quiet else log.info
    write("request", method=method, route=label, code=code, ms=round(seconds * 1000, 1))
