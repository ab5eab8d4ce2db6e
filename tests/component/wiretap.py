"""A TCP proxy before PostgreSQL that counts round trips: each Sync or simple Query of the client is one."""

import asyncio
import contextlib
from typing import Self


class Wiretap:
    """Forwards to a server on loopback. `async with Wiretap(server_port) as wire:` listens on `wire.port`."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self.round_trips = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self._server_port)
        back = asyncio.create_task(self._copy(upstream_reader, writer))
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await self._forward(reader, upstream)
        upstream.close()
        back.cancel()
        writer.close()

    async def _forward(self, reader: asyncio.StreamReader, upstream: asyncio.StreamWriter) -> None:
        """Forward the client's messages one by one. Those before the start-up message have no type byte."""
        while True:
            length = await reader.readexactly(4)
            body = await reader.readexactly(int.from_bytes(length) - 4)
            upstream.write(length + body)
            if int.from_bytes(body[:4]) >> 16 == 3:  # protocol 3.x, not a request for TLS
                break
        while True:
            kind = await reader.readexactly(1)
            length = await reader.readexactly(4)
            upstream.write(kind + length + await reader.readexactly(int.from_bytes(length) - 4))
            self.round_trips += kind in (b"S", b"Q")

    @staticmethod
    async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()
