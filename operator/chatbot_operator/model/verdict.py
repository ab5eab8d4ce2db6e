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

    @property
    def ok(self) -> bool:
        """Return whether the gate is open."""
        return self.decision is Decision.OK


OK = Verdict(Decision.OK, "Available")
