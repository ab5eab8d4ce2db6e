"""HTTP to the API server: one connection pool, raw JSON bytes, typed errors; never logs a body."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import orjson
import structlog

from chatbot_operator.errors import ConfigError, KubeError, Unavailable
from chatbot_operator.kube.credentials import Credentials
from chatbot_operator.kube.responses import error_of

Observe = Callable[[str, int], None]
"""Called with (verb, HTTP status) of each answer; status 0 means that no answer came."""
Guard = Callable[[], None]
"""Called right before a request is sent; raises LeadershipLost when it may not be."""

REQUEST_SECONDS: Final = 30.0
CONNECT_SECONDS: Final = 5.0
MAX_CONNECTIONS: Final = 48
"""Requests in flight. Watches, which hold a connection each, have a pool of their own without a limit, or many would starve the rest."""

_log = structlog.get_logger(__name__)
_AWAY = (aiohttp.ClientError, asyncio.TimeoutError, OSError)


class Transport:
    """Sends requests. Shared by all clients of a process."""

    def __init__(self, credentials: Credentials, observe: Observe, *, connections: int = MAX_CONNECTIONS) -> None:
        self._credentials = credentials
        self._observe = observe
        self._reloading = asyncio.Lock()
        self._session = _session(connections)
        self._watches = _session(0)

    async def close(self) -> None:
        """Close all connections; running requests fail."""
        await self._session.close()
        await self._watches.close()

    async def send(
        self,
        verb: str,
        method: str,
        path: str,
        *,
        target: str,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        accept: str | None = None,
        seconds: float | None = None,
        repeatable: bool = True,
        guard: Guard = lambda: None,
    ) -> Any:
        """Send one request and return the parsed JSON answer.

        Args:
            verb: Kubernetes verb, for counting.
            method: HTTP method.
            path: URL path.
            target: `Kind namespace/name`, for errors.
            params: Query parameters.
            body: JSON value, or None.
            content_type: Of the body.
            accept: Accept header in place of plain JSON.
            seconds: Time-out in place of 30 seconds.
            repeatable: Sending twice does no harm, so a request lost on a dying connection is sent again, once.
            guard: Asked before each attempt: the Lease may run out between the first and another.

        Raises:
            KubeError: The typed error of the answer, or Unavailable without one. Whatever the guard raises comes through.
        """
        headers = {"Content-Type": content_type} if body is not None else {}
        if accept:
            headers["Accept"] = accept
        data = orjson.dumps(body) if body is not None else None
        timeout = None if seconds is None else aiohttp.ClientTimeout(total=seconds, connect=min(seconds, CONNECT_SECONDS))
        for attempt in (1, 2):
            try:
                async with self._request(
                    verb, method, path, target=target, params=params, data=data, headers=headers, timeout=timeout, guard=guard
                ) as response:
                    return _parsed(await response.read(), target)
            except (aiohttp.ServerDisconnectedError, ConnectionResetError, BrokenPipeError) as error:
                if attempt == 2 or not repeatable:
                    raise self._away(verb, target, error) from None
            except _AWAY as error:
                raise self._away(verb, target, error) from None
        raise AssertionError  # pragma: no cover - the loop returns or raises

    async def stream(
        self, path: str, *, target: str, params: Mapping[str, str], accept: str | None, silence_seconds: float
    ) -> AsyncIterator[Any]:
        """Open a watch and yield its JSON lines.

        Args:
            path: URL path.
            target: For errors.
            params: Query parameters, with `watch`.
            accept: Accept header in place of plain JSON.
            silence_seconds: A stream without a single byte for this long counts as dead.

        Raises:
            KubeError: The watch was refused, broke, or fell silent (Unavailable).
        """
        headers = {"Accept": accept} if accept else {}
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=silence_seconds)
        rest = b""
        try:
            async with self._request(
                "watch", "GET", path, target=target, params=params, data=None, headers=headers, timeout=timeout
            ) as response:
                async for chunk in response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        if line:
                            yield _parsed(line, target)
        except _AWAY as error:
            raise self._away("watch", target, error) from None

    @asynccontextmanager
    async def _request(
        self,
        verb: str,
        method: str,
        path: str,
        *,
        target: str,
        params: Mapping[str, str] | None,
        data: bytes | None,
        headers: Mapping[str, str],
        timeout: aiohttp.ClientTimeout | None,  # noqa: ASYNC109 aiohttp's own time-out object
        guard: Guard = lambda: None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open one request; a 401 or an unverifiable certificate reloads the credentials and tries once more."""
        session = self._watches if verb == "watch" else self._session
        for attempt in (1, 2):
            used = await self._credentials.authorization()
            sent = {**headers, "Authorization": used} if used else dict(headers)
            options: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
            try:
                async with session.request(
                    method,
                    self._credentials.host + path,
                    params=params,
                    data=data,
                    headers=sent,
                    ssl=self._credentials.tls,
                    proxy=self._credentials.proxy,
                    server_hostname=self._credentials.server_name,
                    allow_redirects=False,
                    middlewares=(_asking(guard),),
                    **options,
                ) as response:
                    self._observe(verb, response.status)
                    if response.status == 401 and attempt == 1:
                        await self._reload(used)
                        continue
                    if response.status >= 300:
                        raise error_of(
                            response.status, await response.read(), target=target, retry_after=response.headers.get("Retry-After")
                        )
                    yield response
                    return
            except aiohttp.ClientConnectorCertificateError:
                if attempt == 2:
                    raise
                await self._reload(used)

    async def _reload(self, used: str | None) -> None:
        """Reload the credentials, unless another request did so since ours was sent."""
        async with self._reloading:
            if used == await self._credentials.authorization():
                try:
                    await self._credentials.reload()
                except ConfigError as error:  # half-written just now; the request is refused once more and its caller tries again
                    _log.warning("credentials.unreadable", error=str(error))

    def _away(self, verb: str, target: str, error: BaseException) -> KubeError:
        self._observe(verb, 0)
        return Unavailable(f"no answer from the API server ({type(error).__name__})", target=target)


def _asking(guard: Guard) -> aiohttp.ClientMiddlewareType:
    """Return what asks the guard each time that a request is sent: aiohttp itself sends a DELETE again on a dead connection."""

    async def ask(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        guard()
        return await handler(request)

    return ask


def _session(connections: int) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=60),
        timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS, connect=CONNECT_SECONDS),
        headers={"Accept": "application/json", "User-Agent": "chatbot-operator"},
    )


def _parsed(body: bytes, target: str) -> Any:
    """Return the JSON of an answer; something between us and the API server may answer with a page of its own."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Unavailable("the answer is not JSON; something else than the API server answered", target=target) from None
