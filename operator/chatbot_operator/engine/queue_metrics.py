"""Turns what the queue reports into workqueue's standard metrics."""

from collections.abc import Callable, Mapping
from typing import Any

from chatbot_operator.metrics import Metrics


class WorkqueueMetrics:
    """A `QueueObserver` for one named queue."""

    def __init__(self, metrics: Metrics, name: str) -> None:
        self._depth = metrics.depth.labels(name)
        self._adds = metrics.adds.labels(name)
        self._queue_seconds = metrics.queue_seconds.labels(name)
        self._work_seconds = metrics.work_seconds.labels(name)
        self._retries = metrics.retries.labels(name)
        self._unfinished = metrics.unfinished.labels(name)
        self._longest = metrics.longest.labels(name)

    def added(self, depth: int) -> None:
        """A key now waits."""
        self._adds.inc()
        self._depth.set(depth)

    def taken(self, waited: float, depth: int) -> None:
        """A key was handed out after waiting so many seconds."""
        self._queue_seconds.observe(waited)
        self._depth.set(depth)

    def finished(self, worked: float, depth: int) -> None:
        """A worker was done with a key after so many seconds."""
        self._work_seconds.observe(worked)
        self._depth.set(depth)

    def retried(self) -> None:
        """A key was added with back-off."""
        self._retries.inc()

    def watch_processing(self, processing: Callable[[], Mapping[Any, float]], monotonic: Callable[[], float]) -> None:
        """Let a scrape compute how long the work in progress takes, so that a hung pass shows while it hangs."""

        def ages() -> list[float]:
            now = monotonic()
            return [now - started for started in processing().values()]

        self._unfinished.set_function(lambda: sum(ages()))
        self._longest.set_function(lambda: max(ages(), default=0.0))
