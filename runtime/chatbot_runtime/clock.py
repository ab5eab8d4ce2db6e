"""Time as a dependency, so that expiry and delays are tested without sleeping."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the runtime may ask about time."""

    def now(self) -> datetime:
        """Wall-clock time in UTC, for what people and other machines read."""

    def monotonic(self) -> float:
        """Seconds that never jump, for deadlines inside this process."""


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        """Return the current time in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()
