"""Who may act under a Lease, judged from local monotonic observations alone; pure, so that every interleaving can be tested."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from chatbot_operator.kube.store import version_number

LONGEST_MARGIN: Final = 2.0
"""Seconds between the last moment the old leader may change things and the first moment another may take over."""


@dataclass(frozen=True, slots=True)
class Record:
    """What the Lease said. `holder` empty means released."""

    holder: str
    seconds: float
    transitions: int
    version: str

    @classmethod
    def of(cls, live: Mapping[str, Any]) -> "Record":
        """Read a live Lease; a missing duration counts as released long ago only if there is no holder either."""
        spec = live.get("spec") or {}
        return cls(
            holder=spec.get("holderIdentity") or "",
            seconds=float(spec.get("leaseDurationSeconds") or 0),
            transitions=int(spec.get("leaseTransitions") or 0),
            version=live["metadata"]["resourceVersion"],
        )


class Tenancy:
    """The view of one candidate. Times are monotonic seconds of this process; clocks are never compared between machines."""

    def __init__(self, identity: str, seconds: float) -> None:
        self.identity = identity
        self.seconds = seconds
        self.record: Record | None = None
        self.deadline = -math.inf
        """Until when this candidate may change things; the past while it is not the leader."""
        self._seen_at = -math.inf

    @property
    def margin(self) -> float:
        """Return seconds that the leader stops before its Lease ends: 2, or a quarter of a very short Lease."""
        return min(LONGEST_MARGIN, self.seconds / 4)

    @property
    def renew_seconds(self) -> float:
        """Return seconds between two renewals, and how long one may take: a third of the Lease, so that two may fail before it is lost."""
        return self.seconds / 3

    def see(self, record: Record, now: float, *, read: bool = False) -> None:
        """Take in the Lease as it came now. Only a change restarts the waiting time of a standby.

        Args:
            record: What it said.
            now: Monotonic seconds.
            read: It was read just now. A watch instead may deliver late what our own write has replaced, so older versions are dropped.
        """
        if not read and self.record is not None and version_number(self.record.version) > version_number(record.version):
            return
        if self.record is None or self.record.version != record.version:
            self.record = record
            self._seen_at = now
        if record.holder != self.identity:
            self.deadline = -math.inf

    def gone(self, now: float) -> None:
        """Learn that the Lease object does not exist. A holder seen before still has its time."""
        if self.record is not None and self.record.version:
            self.record = Record(self.record.holder, self.record.seconds, self.record.transitions, "")
            self._seen_at = now

    def wrote(self, record: Record, sent: float) -> None:
        """Take in our own successful write. The deadline counts from before it was sent, so it is never late."""
        self.record = record
        self._seen_at = sent
        self.deadline = sent + self.seconds - self.margin if record.holder == self.identity else -math.inf

    def step_down(self) -> None:
        """Stop acting now, before the release is written."""
        self.deadline = -math.inf

    def is_leader(self, now: float) -> bool:
        """Return whether things may be changed now."""
        return now < self.deadline

    def other_holder(self) -> str:
        """Return the name of another holder that was seen, or an empty text."""
        return self.record.holder if self.record is not None and self.record.holder != self.identity else ""

    def wait(self, now: float) -> float:
        """Return in how many seconds this candidate may try to write itself into the Lease; 0 is now."""
        if self.record is None or self.record.holder in ("", self.identity):
            return 0.0
        return max(0.0, self._seen_at + max(self.record.seconds, self.seconds) - now)
