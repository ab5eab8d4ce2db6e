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

WEBHOOKS_HELD_MAX: Final = 64 * 1024 * 1024
"""Bytes of webhook bodies that a process holds at once: else as many as there are connections could end it by their memory."""
WEBHOOKS_RESERVE: Final = 16 * 1024 * 1024
"""Bytes of those that are kept for bodies of at most `BODY_MAX`."""
HELD_RETRY_S: Final = 10

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
        self._budget = Budget()
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

        webhook = scope["path"].startswith("/webhooks/")
        limit = WEBHOOK_MAX if webhook else BODY_MAX
        body = _Body(receive, limit, self._budget if webhook else None)
        try:
            if _declared_length(scope["headers"]) > limit:
                await _too_large(limit, request_id)(scope, receive, framed_send)
            else:
                await self._app(scope, body.receive, framed_send)
        finally:
            body.forget()
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


class Budget:
    """Bytes of webhook bodies that one process holds at once, as nobody has proved who sent them before they are whole."""

    def __init__(self, limit: int = WEBHOOKS_HELD_MAX, reserve: int = WEBHOOKS_RESERVE) -> None:
        self._limit = limit
        self._reserve = reserve
        self.held = 0

    def take(self, count: int, *, large: bool) -> bool:
        """Note bytes, or refuse them; a large body leaves the reserve to small ones, which true webhooks are."""
        if self.held + count > self._limit - (self._reserve if large else 0):
            return False
        self.held += count
        return True

    def give_back(self, count: int) -> None:
        """Note that bytes are held no longer."""
        self.held -= count


class _Body:
    """A request's body on its way: stops one that is too slow, too large without having said so, or more than can be held now."""

    def __init__(self, receive: Receive, limit: int, budget: Budget | None) -> None:
        self._receive = receive
        self._limit = limit
        self._budget = budget
        self._seen = self._charged = 0
        self._whole = False
        self._deadline = asyncio.get_running_loop().time() + BODY_S

    async def receive(self) -> Message:
        """Stand in for the server's `receive`."""
        if self._whole:  # what comes now is only that the client has left, which takes as long as the answer
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, f"The body did not come within {BODY_S:g} s.") from None
        if message["type"] == "http.request":
            self._count(len(message.get("body", b"")))
            self._whole = not message.get("more_body", False)
        return message

    def _count(self, more: int) -> None:
        self._seen += more
        if self._seen > self._limit:
            raise HTTPException(413, f"The body may have at most {self._limit} bytes.")
        if self._budget is None:
            return
        if not self._budget.take(more, large=self._seen > BODY_MAX):
            metrics.RATE_LIMITED.labels(limit="webhook-bytes").inc()
            headers = {"Retry-After": str(HELD_RETRY_S), "Connection": "close"}
            raise HTTPException(503, "Too many bodies are on their way at once; try again later.", headers)
        self._charged += more

    def forget(self) -> None:
        """Give back what was held; the request is over, however it ended."""
        if self._budget is not None:
            self._budget.give_back(self._charged)


def _account(scope: Scope, code: int, seconds: float) -> None:
    route: Any = scope.get("route")
    label = "/ui" if scope["path"].startswith("/ui/") else getattr(route, "path", "unmatched")
    method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS") else "other"
    metrics.HTTP_REQUESTS.labels(method, label, code).inc()
    metrics.HTTP_SECONDS.labels(method, label).observe(seconds)
    quiet = code < 400 and scope["path"].startswith(_QUIET)
    write = log.debug if quiet else log.info
    write("request", method=method, route=label, code=code, ms=round(seconds * 1000, 1))
