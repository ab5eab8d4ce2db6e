"""The HTTP session that kopf watches with: our credentials on every request, so that a rotated or expired token never reaches kopf."""

import asyncio
import ssl
from typing import Final, Protocol

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

RETRY_SECONDS: Final = 2.0
"""Pause between tries while even freshly read credentials are refused."""


class Credentials(Protocol):
    """What of the credentials is needed here (`kube.credentials`)."""

    @property
    def host(self) -> str:
        """Base URL of the API server."""

    @property
    def tls(self) -> ssl.SSLContext | bool:
        """What aiohttp wants as `ssl`."""

    @property
    def proxy(self) -> str | None:
        """Proxy, if any."""

    async def authorization(self) -> str | None:
        """Value of the Authorization header."""

    async def reload(self) -> None:
        """Read everything again."""


def watch_session(credentials: Credentials, *, retry_seconds: float = RETRY_SECONDS) -> aiohttp.ClientSession:
    """Return a session that authenticates each request anew and waits out a 401 instead of passing it on.

    kopf ends for good when credentials are refused twice; a watch of ours must survive an expired token until the new one is mounted.
    """

    async def authenticate(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        while True:
            used = await credentials.authorization()
            if used:
                request.headers["Authorization"] = used
            response = await handler(request)
            if response.status != 401:
                return response
            response.release()
            await credentials.reload()
            if used == await credentials.authorization():
                await asyncio.sleep(retry_seconds)

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=credentials.tls),
        proxy=credentials.proxy,
        middlewares=(authenticate,),
        headers={"User-Agent": "chatbot-operator-watch"},
    )
