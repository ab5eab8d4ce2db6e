"""The cheapest client we could write: requests rendered and signed beforehand, over connections that stay open.

The load generator shares the cores with what it measures, so each microsecond that it takes is missing there.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping


def rendered(path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """Return a POST as it goes over the wire."""
    lines = [
        f"POST {path} HTTP/1.1",
        "host: 127.0.0.1",
        f"content-length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def flood(port: int, requests: list[bytes], connections: int) -> float:
    """Send requests to 127.0.0.1, one at a time on each connection; return the seconds from the first to the last answer.

    Raises:
        RuntimeError: one was not answered with an empty 200.
    """
    loop = asyncio.get_running_loop()
    queue = iter(requests)
    clients = [_Client(queue, loop.create_future) for _ in range(connections)]
    for client in clients:
        await loop.create_connection(lambda own=client: own, "127.0.0.1", port)  # type: ignore[misc]
    started = time.monotonic()
    for client in clients:
        client.send_next()
    try:
        await asyncio.gather(*(client.done for client in clients))
        return time.monotonic() - started
    finally:
        for client in clients:
            client.close()


class _Client(asyncio.Protocol):
    """One connection. Answers are expected to have no body."""

    def __init__(self, requests: Iterator[bytes], future: Callable[[], asyncio.Future[None]]) -> None:
        self.done = future()
        self._requests = requests
        self._answer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not self._answer.endswith(b"\r\n\r\n"):
            return
        answer, self._answer = self._answer, b""
        if answer.startswith(b"HTTP/1.1 200 ") and b"\r\ncontent-length: 0\r\n" in answer:
            self.send_next()
        else:
            self._fail(f"answered with {answer[:64]!r}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection was closed: {exc}")

    def send_next(self) -> None:
        """Send the next request, or be done."""
        request = next(self._requests, None)
        if request is not None and self._transport is not None:
            self._transport.write(request)
        elif not self.done.done():
            self.done.set_result(None)

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def _fail(self, why: str) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(why))
