"""Bodies of webhooks that nobody has proved are held within a budget of bytes, however many come slowly at once. Needs nothing."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from chatbot_runtime.api.middleware import BODY_MAX, WEBHOOKS_HELD_MAX, WEBHOOKS_RESERVE, Frame
from chatbot_runtime.lifecycle import Lifecycle

MIB = 1024 * 1024
SENDERS = 60


async def whole_body(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body to its end, as the route of webhooks does."""
    await Request(scope, receive).body()
    await Response(status_code=200)(scope, receive, send)


@pytest.fixture
def frame() -> Frame:
    return Frame(ExceptionMiddleware(whole_body), Lifecycle(1), https=False)


class Sender:
    """A client whose body comes in pieces, and then not on until it leaves."""

    def __init__(self, frame: Frame, sizes: list[int], *, path: str = "/webhooks/cloud", ends: bool = False) -> None:
        self.frame = frame
        self.path = path
        self.leaves = asyncio.Event()
        self.pieces = self._pieces(sizes, ends=ends)
        self.answer: Message | None = None
        self.most_held = 0
        self.settled = asyncio.Event()

    @staticmethod
    def _pieces(sizes: list[int], *, ends: bool) -> Iterator[Message]:
        for left, size in zip(range(len(sizes) - 1, -1, -1), sizes, strict=True):
            yield {"type": "http.request", "body": bytes(size), "more_body": bool(left) or not ends}

    async def _receive(self) -> Message:
        self.most_held = max(self.most_held, self.frame._budget.held)
        await asyncio.sleep(0)
        for piece in self.pieces:
            return piece
        self.settled.set()
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self.answer = self.answer or message
        self.settled.set()

    async def run(self) -> None:
        scope: dict[str, Any] = {"type": "http", "method": "POST", "path": self.path, "query_string": b"", "headers": []}
        with contextlib.suppress(ClientDisconnect):
            await self.frame(scope, self._receive, self._send)

    @property
    def status(self) -> int:
        assert self.answer is not None
        return int(self.answer["status"])


async def settled(senders: list[Sender]) -> None:
    """Wait until each has an answer or has sent all that it sends."""
    for sender in senders:
        await sender.settled.wait()


async def test_slow_large_bodies_stay_within_the_budget_and_a_small_one_still_gets_through(frame: Frame) -> None:
    senders = [Sender(frame, [MIB] * 3) for _ in range(SENDERS)]
    tasks = [asyncio.create_task(sender.run()) for sender in senders]
    await settled(senders)
    assert MIB < max(sender.most_held for sender in senders) <= WEBHOOKS_HELD_MAX - WEBHOOKS_RESERVE
    refused = [sender for sender in senders if sender.answer is not None]
    assert 0 < len(refused) < SENDERS
    for sender in refused:
        headers = dict(sender.answer["headers"])  # type: ignore[index]
        assert (sender.status, headers[b"connection"]) == (503, b"close")
        assert int(headers[b"retry-after"]) > 0
    small = Sender(frame, [BODY_MAX], ends=True)
    await small.run()
    assert small.status == 200
    for sender in senders:
        sender.leaves.set()
    await asyncio.gather(*tasks)
    assert frame._budget.held == 0


async def test_a_flood_of_small_bodies_stays_within_the_budget_too(frame: Frame) -> None:
    senders = [Sender(frame, [BODY_MAX]) for _ in range(WEBHOOKS_HELD_MAX // BODY_MAX + 5)]
    tasks = [asyncio.create_task(sender.run()) for sender in senders]
    await settled(senders)
    assert frame._budget.held == WEBHOOKS_HELD_MAX
    assert [sender.status for sender in senders if sender.answer is not None] == [503] * 5
    for sender in senders:
        sender.leaves.set()
    await asyncio.gather(*tasks)
    after = Sender(frame, [3 * MIB], ends=True)
    await after.run()
    assert (after.status, frame._budget.held) == (200, 0)


@pytest.mark.parametrize("sizes", [[3 * MIB + 1], [MIB, 3 * MIB]])
async def test_a_body_that_is_refused_holds_nothing_afterwards(frame: Frame, sizes: list[int]) -> None:
    sender = Sender(frame, sizes, ends=True)
    await sender.run()
    assert (sender.status, frame._budget.held) == (413, 0)


async def test_a_request_that_is_cancelled_holds_nothing_afterwards(frame: Frame) -> None:
    sender = Sender(frame, [MIB])
    task = asyncio.create_task(sender.run())
    await settled([sender])
    assert frame._budget.held == MIB
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert frame._budget.held == 0
