"""Whether the database's volume is the one that was bootstrapped. An empty database never replaces a lost one in silence."""

from dataclasses import dataclass
from typing import Final

from chatbot_operator.model.objects import ChildState
from chatbot_operator.model.verdict import OK, Verdict, stop, wait

REASON: Final = "DataLossSuspected"
_HELP: Final = "nothing is changed until a person decides: bring the volume back, or restore a backup into a new instance"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of the data. Identifiers are empty where nobody recorded one.

    `recorded` and `recorded_uid` are of the status, `claimed` is written on the claim, `kept` on the password Secret.
    """

    claim_name: str
    claim: ChildState | None
    recorded: str
    recorded_uid: str
    kept: str

    @property
    def claimed(self) -> str:
        """Return the identifier that is written on the claim."""
        return self.claim.details.get("systemIdentifier", "") if self.claim else ""

    @property
    def expected(self) -> str:
        """Return the identifier that the data must have; empty where a new database may be made."""
        return self.recorded or self.claimed or self.kept


def judge_volume(evidence: Evidence) -> Verdict:
    """Return whether the volume may be used: OK also where none exists yet and none ever did."""
    claim, name = evidence.claim, evidence.claim_name
    if claim is None:
        if evidence.expected:
            return stop(REASON, f"claim {name} with database {evidence.expected} is gone; {_HELP}")
        return OK
    if claim.deleting:
        if evidence.expected:
            return stop(REASON, f"claim {name} is being deleted; back up the data before its pod ends; {_HELP}")
        return wait("Terminating", f"claim {name} is being deleted; a new one is made after that")
    if claim.health.reason == "ClaimLost":
        return stop(REASON, f"the volume of claim {name} no longer exists; {_HELP}")
    if evidence.recorded_uid and claim.uid != evidence.recorded_uid:
        return stop(REASON, f"claim {name} was replaced by another of the same name; {_HELP}")
    if evidence.recorded and claim.details.get("phase") != "Bound":
        return stop(REASON, f"claim {name} has no volume although a database lay on it; {_HELP}")
    return _judge_identity(evidence)


def judge_report(evidence: Evidence, identifier: str) -> Verdict:
    """Return whether the database that the bootstrap Job found on the volume is the expected one."""
    expected = evidence.expected
    if expected and identifier != expected:
        return stop(REASON, f"claim {evidence.claim_name} holds database {identifier}, not {expected}; {_HELP}")
    return OK


def judge_loss(evidence: Evidence, told: str) -> Verdict:
    """Return the verdict on a bootstrap Job that did not find the expected database."""
    return stop(REASON, f"claim {evidence.claim_name}: {told}; {_HELP}")


def _judge_identity(evidence: Evidence) -> Verdict:
    """Compare what the claim and the Secret say. Once the status knows the data, it is they that are set right."""
    if evidence.recorded or not evidence.claimed or not evidence.kept or evidence.claimed == evidence.kept:
        return OK
    return stop(REASON, f"claim {evidence.claim_name} says database {evidence.claimed}, its password Secret says {evidence.kept}; {_HELP}")
