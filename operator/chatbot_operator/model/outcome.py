"""How a pass ended."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """`requeue_after` is in seconds: 0 means at once, None means at the next wake or resync.

    `over` means that nothing will ever be to do again, so that it is not looked at without a reason: runs end, and stay to be read.
    """

    requeue_after: float | None = None
    error: bool = False
    over: bool = False
