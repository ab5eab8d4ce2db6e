"""Snapshot and deltas for dashboard sockets: one reader of the database however many people watch, and none while nobody does.

A frame is `{"kind": "snapshot", "feed", "seq", "data"}` or `{"kind": "delta", "feed", "from", "seq", "data"}` with the sections that
changed. `feed` is new with each process, so a browser that reconnects to another replica gets a snapshot, never a wrong delta. A delta
without data says that nothing changed; silence says that nothing is known.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, Final
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncEngine

from chatbot_runtime import metrics
from chatbot_runtime.api.picture import Picture, read_picture
from chatbot_runtime.db.engine import transaction
from chatbot_runtime.errors import DatabaseDown
from chatbot_runtime.lifecycle import Lifecycle, first_of

TICK_S: Final = 2.0
KEPT: Final = 64
"""Deltas that a browser may have missed and still resume from: two minutes."""

Frame = dict[str, Any]


class Feed:
    """Reads pictures while somebody watches, and hands out what changed."""

    def __init__(self, engine: AsyncEngine, lifecycle: Lifecycle) -> None:
        self._engine = engine
        self._lifecycle = lifecycle
        self._id = uuid4().hex
        self._seq = 0
        self._picture: Picture | None = None
        self._taken_at = 0.0
        self._fresh = False
        self._deltas: deque[tuple[Frame, float]] = deque(maxlen=KEPT)
        self._watchers = 0
        self._changed = asyncio.Condition()
        self._wanted = asyncio.Event()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count the body as a watcher, so that the feed runs."""
        self._watchers += 1
        self._wanted.set()
        metrics.WS_CLIENTS.inc()
        try:
            yield
        finally:
            self._watchers -= 1
            metrics.WS_CLIENTS.dec()

    async def run(self) -> None:
        """Take pictures until the process stops."""
        while not self._lifecycle.stopping.is_set():
            if self._watchers == 0:
                self._wanted.clear()
                self._fresh = False
            await first_of(self._wanted.wait(), self._lifecycle.stopping.wait())
            taken_at = time.monotonic()
            try:
                async with transaction(self._engine, op="picture") as db:
                    await self._publish(await read_picture(db), taken_at)
            except DatabaseDown:
                self._fresh = False
            await self._lifecycle.pause(TICK_S)
        async with self._changed:
            self._changed.notify_all()

    async def frames(self, feed: str, seq: int) -> AsyncIterator[Frame]:
        """Yield frames from where a browser left off, else from a snapshot; ends when the process stops."""
        if feed != self._id:
            seq = -1
        while not self._lifecycle.stopping.is_set():
            async with self._changed:
                if not self._has_news(seq):
                    await self._changed.wait()
                news = self._since(seq)
            for frame, taken_at in news:
                seq = frame["seq"]
                yield frame
                metrics.WS_LAG.observe(time.monotonic() - taken_at)  # who asks for the next one has sent this one

    def _has_news(self, seq: int) -> bool:
        return self._fresh and seq < self._seq

    def _since(self, seq: int) -> list[tuple[Frame, float]]:
        """Return the frames after `seq`, each with when its picture was taken."""
        if not self._has_news(seq):
            return []
        kept = [(frame, taken_at) for frame, taken_at in self._deltas if frame["seq"] > seq]
        if kept and kept[0][0]["from"] == seq:
            return kept
        return [({"kind": "snapshot", "feed": self._id, "seq": self._seq, "data": self._picture}, self._taken_at)]

    async def _publish(self, picture: Picture, taken_at: float) -> None:
        before = self._picture
        async with self._changed:
            if before is not None:
                data = {name: section for name, section in picture.items() if before.get(name) != section}
                frame = {"kind": "delta", "feed": self._id, "from": self._seq, "seq": self._seq + 1, "data": data}
                self._deltas.append((frame, taken_at))
            self._seq += 1
            self._picture = picture
            self._taken_at = taken_at
            self._fresh = True
            self._changed.notify_all()
