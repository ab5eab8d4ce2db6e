"""The answer of a gate: may we go on, and can waiting help?"""

from dataclasses import dataclass
from enum import StrEnum


class Decision(StrEnum):
    """What a gate says."""

    OK = "ok"
    WAIT = "wait"
    STOP = "stop"
    """Waiting can't help; a person has to act."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision with its reason (CamelCase) and a message for a tired person."""

    decision: Decision
    reason: str
    message: str = ""
    unknown: bool = False
    """With WAIT: nobody knows whether it is good or bad. Unknown is never healthy."""

    @property
    def ok(self) -> bool:
        """Return whether the gate is open."""
        return self.decision is Decision.OK


def wait(reason: str, message: str = "", *, unknown: bool = False) -> Verdict:
    """Return the verdict that waiting helps."""
    return Verdict(Decision.WAIT, reason, message, unknown)


def stop(reason: str, message: str) -> Verdict:
    """Return the verdict that a person has to act."""
    return Verdict(Decision.STOP, reason, message)


OK = Verdict(Decision.OK, "Available")
