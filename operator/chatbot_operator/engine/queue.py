"""Work queue with the semantics of client-go's: keys, coalescing, dirty re-queue, back-off, due times, two priorities.

Semantics (https://pkg.go.dev/k8s.io/client-go/util/workqueue), each held by a property test against a model:

- A key waits at most once, however often it is added.
- A key is handed out to one worker at a time; added meanwhile, it waits again as soon as that worker is done.
- `add_after` keeps one due time per key, the earliest.
- `add_rate_limited` doubles the delay of a key at each call, with jitter, until `forget`.
- Two priorities: a LOW key counts as a HIGH key that arrived `aging` seconds later. So what people wait for overtakes
  resyncs, and nothing starves.

One heap holds what waits, one heap what is due later, one timer watches the latter: cost per idle key is nothing.
"""

import asyncio
import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Generic, Protocol, TypeVar

from chatbot_operator.clock import Clock

K = TypeVar("K")


class Priority(IntEnum):
    """Who goes first. Lower is sooner."""

    HIGH = 0
    """A change of the spec, a new object, a failure, a child that changed."""
    LOW = 1
    """A resync, or an object that was fine when the process started."""


class QueueObserver(Protocol):
    """What the queue reports; `engine.queue_metrics` turns it into workqueue's metrics."""

    def added(self, depth: int) -> None:
        """A key now waits."""

    def taken(self, waited: float, depth: int) -> None:
        """A key was handed out after waiting so many seconds."""

    def finished(self, worked: float, depth: int) -> None:
        """A worker was done with a key after so many seconds."""

    def retried(self) -> None:
        """A key was added with back-off."""


class ShutDown(Exception):
    """The queue takes no more keys and hands out none."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off: `base` * 2^failures seconds up to `cap`, each moved by up to +-`jitter` of itself."""

    base: float = 0.005
    cap: float = 300.0
    jitter: float = 0.2

    def delay(self, failures: int, rand: Callable[[], float]) -> float:
        """Return seconds to wait after so many earlier failures; `rand` gives [0, 1)."""
        exact: float = min(self.cap, self.base * 2 ** min(failures, 60))
        return exact * (1 + self.jitter * (2 * rand() - 1))


@dataclass(slots=True)
class _Waiting:
    """A key that wants to be processed. `rank` orders keys: arrival time, moved back by `aging` if LOW."""

    priority: Priority
    since: float
    rank: float
    ticket: int


@dataclass(slots=True)
class _State(Generic[K]):
    """All state of the queue, apart so that `WorkQueue` reads as behaviour."""

    dirty: dict[K, _Waiting] = field(default_factory=dict)
    processing: dict[K, float] = field(default_factory=dict)
    ready: list[tuple[float, int, K]] = field(default_factory=list)
    due: dict[K, tuple[float, Priority]] = field(default_factory=dict)
    timers: list[tuple[float, int, K]] = field(default_factory=list)
    failures: dict[K, int] = field(default_factory=dict)


class WorkQueue(Generic[K]):
    """The queue. Not thread-safe: one event loop owns it. All methods but `get` return at once."""

    def __init__(
        self,
        clock: Clock,
        observer: QueueObserver,
        *,
        backoff: Backoff | None = None,
        aging: float = 30.0,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._observer = observer
        self._backoff = backoff or Backoff()
        self._aging = aging
        self._rand = rand
        self._tickets = itertools.count()
        self._s: _State[K] = _State()
        self._closed = False
        self._news = asyncio.Event()

    def add(self, key: K, priority: Priority = Priority.HIGH) -> None:
        """Let the key be processed as soon as its turn comes. A key that waits already keeps the better priority."""
        if self._closed:
            return
        now = self._clock.monotonic()
        waiting = self._s.dirty.get(key)
        if waiting is None:
            self._s.dirty[key] = self._wait(priority, now)
        elif priority < waiting.priority:
            better = self._wait(priority, now)
            self._s.dirty[key] = _Waiting(priority, waiting.since, min(better.rank, waiting.rank), better.ticket)
        else:
            return
        if key not in self._s.processing:
            self._make_ready(key, new=waiting is None)

    def add_after(self, key: K, delay: float, priority: Priority = Priority.HIGH) -> None:
        """Add the key in `delay` seconds. The earliest due time of a key wins; at once if `delay` is not positive."""
        if self._closed:
            return
        if delay <= 0:
            self.add(key, priority)
            return
        at = self._clock.monotonic() + delay
        known = self._s.due.get(key)
        if known is not None and known[0] <= at:
            self._s.due[key] = (known[0], min(known[1], priority))
            return
        self._s.due[key] = (at, priority)
        heapq.heappush(self._s.timers, (at, next(self._tickets), key))
        self._news.set()

    def add_rate_limited(self, key: K) -> float:
        """Add the key after its back-off and return that delay in seconds."""
        failures = self._s.failures.get(key, 0)
        self._s.failures[key] = failures + 1
        delay = self._backoff.delay(failures, self._rand)
        self._observer.retried()
        self.add_after(key, delay)
        return delay

    def forget(self, key: K) -> None:
        """Reset the back-off of a key after a success."""
        self._s.failures.pop(key, None)

    def drop(self, key: K) -> None:
        """Forget everything about a key that no longer exists: it neither waits nor falls due. Processing goes on."""
        self._s.failures.pop(key, None)
        self._s.due.pop(key, None)
        self._s.dirty.pop(key, None)

    def failures(self, key: K) -> int:
        """Return how often the key was rate limited since it was last forgotten."""
        return self._s.failures.get(key, 0)

    def take(self) -> K | None:
        """Hand out the key whose turn it is, or None. The caller must call `done` for it."""
        now = self._clock.monotonic()
        self._promote(now)
        while self._s.ready:
            _, ticket, key = heapq.heappop(self._s.ready)
            waiting = self._s.dirty.get(key)
            if waiting is None or waiting.ticket != ticket:
                continue  # promoted, dropped or handed out since: a newer entry speaks for the key
            del self._s.dirty[key]
            self._s.processing[key] = now
            self._observer.taken(now - waiting.since, self.depth)
            return key
        return None

    async def get(self) -> K:
        """Wait for a key and hand it out. The caller must call `done` for it.

        Raises:
            ShutDown: The queue was closed.
        """
        while not self._closed:
            key = self.take()
            if key is not None:
                return key
            self._news.clear()
            due = self.next_due()
            delay = None if due is None else max(0.0, due - self._clock.monotonic())
            try:
                await asyncio.wait_for(self._news.wait(), delay)
            except TimeoutError:
                continue
        raise ShutDown

    def done(self, key: K) -> None:
        """Say that the worker is done with the key; if it was added meanwhile, it waits again."""
        now = self._clock.monotonic()
        started = self._s.processing.pop(key)
        self._observer.finished(now - started, self.depth)
        waiting = self._s.dirty.get(key)
        if waiting is not None and not self._closed:
            self._s.dirty[key] = self._wait(waiting.priority, now)
            self._make_ready(key, new=True)

    def close(self) -> None:
        """Take no more keys and release every waiting `get`. Keys being processed end normally."""
        self._closed = True
        self._news.set()

    @property
    def closed(self) -> bool:
        """Whether the queue takes no more keys."""
        return self._closed

    @property
    def depth(self) -> int:
        """Number of keys that wait now; keys due later or being processed don't count."""
        return len(self._s.dirty) - sum(1 for key in self._s.processing if key in self._s.dirty)

    @property
    def processing(self) -> dict[K, float]:
        """Keys being processed, with the monotonic second each was handed out."""
        return dict(self._s.processing)

    def next_due(self) -> float | None:
        """Return the monotonic second at which the next delayed key falls due, or None."""
        while self._s.timers:
            at, _, key = self._s.timers[0]
            known = self._s.due.get(key)
            if known is not None and known[0] == at:
                return at
            heapq.heappop(self._s.timers)
        return None

    def _promote(self, now: float) -> None:
        """Move every key that has fallen due to those that wait."""
        while (at := self.next_due()) is not None and at <= now:
            _, _, key = heapq.heappop(self._s.timers)
            _, priority = self._s.due.pop(key)
            self.add(key, priority)

    def _wait(self, priority: Priority, now: float) -> _Waiting:
        rank = now if priority is Priority.HIGH else now + self._aging
        return _Waiting(priority, now, rank, next(self._tickets))

    def _make_ready(self, key: K, *, new: bool) -> None:
        waiting = self._s.dirty[key]
        heapq.heappush(self._s.ready, (waiting.rank, waiting.ticket, key))
        if new:
            self._observer.added(self.depth)
        self._news.set()
