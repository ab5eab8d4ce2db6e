"""Tells a watch that is blind while others see from an API server that is away: only the first says something about instances."""

from chatbot_operator.clock import Clock


class Sight:
    """Judges the streams of one process by what any of them hears."""

    def __init__(self, clock: Clock, silence_seconds: float, pause_seconds: float) -> None:
        """Prepare.

        Args:
            clock: For ages.
            silence_seconds: After which a watch counts as dead. When all are silent for that long, the API server is away.
            pause_seconds: The longest pause between two tries of one stream.
        """
        self._clock = clock
        self._silence_seconds = silence_seconds
        self._limit = 2 * silence_seconds + pause_seconds
        self._heard_at = self._back_at = clock.monotonic()

    def heard(self) -> None:
        """Learn that some stream delivered something. After an outage all streams have their time anew."""
        now = self._clock.monotonic()
        if now - self._heard_at > self._silence_seconds:
            self._back_at = now
        self._heard_at = now

    def is_blind(self, current_at: float) -> bool:
        """Return whether a stream that was last current then (monotonic seconds) is blind while another one sees."""
        now = self._clock.monotonic()
        sees = now - self._heard_at <= self._silence_seconds
        return sees and now - max(current_at, self._back_at) > self._limit
