"""How a pass ended."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """`requeue_after` is in seconds: 0 means at once, None means at the next wake or resync."""

    requeue_after: float | None = None
    error: bool = False
