"""Whether the process is alive and ready, from what it knows of itself; asked by the probes, never by requests of its own."""

from collections.abc import Callable

from chatbot_operator.clock import Clock


class ProcessHealth:
    """What probes ask. The event loop itself is proven alive by the answer."""

    def __init__(self, clock: Clock, silence_seconds: float) -> None:
        """Prepare.

        Args:
            clock: For ages.
            silence_seconds: How long watches may be silent while the API server answers.
        """
        self._clock = clock
        self._silence_seconds = silence_seconds
        self._answered_at = clock.monotonic()
        self._started_at = clock.monotonic()
        self.watches_heard_at: Callable[[], float] = lambda: self._started_at
        """Monotonic seconds at which any watch last delivered anything, bookmarks included."""
        self.watch_deaf_at: Callable[[], float | None] = lambda: None
        """Monotonic seconds since when a watch is known to miss things again and again, or None."""
        self.ready_reason = "Starting"
        """Why the process is not ready, or empty."""

    def answered(self, _verb: str, code: int) -> None:
        """Learn that the API server answered a request; 0 means that it did not."""
        if code:
            self._answered_at = self._clock.monotonic()

    def watch_age(self) -> float:
        """Return seconds since any watch delivered anything."""
        return max(0.0, self._clock.monotonic() - self.watches_heard_at())

    def not_alive(self) -> str:
        """Return why the process should be restarted, or an empty text.

        An API server that is away is no reason: a restart would not bring it back. One that answers while watches stay silent is.
        """
        now = self._clock.monotonic()
        if now - self._answered_at > self._silence_seconds:
            return ""
        if self.watch_age() > self._silence_seconds:
            return "WatchSilent"
        deaf_at = self.watch_deaf_at()
        return "WatchDeaf" if deaf_at is not None and now - deaf_at > self._silence_seconds else ""

    def not_ready(self) -> str:
        """Return why the process is not ready, or an empty text. A standby with warm caches is ready."""
        return self.ready_reason
