"""Pure. Each row of what claim, Secret and status can say about the data."""

from dataclasses import dataclass

import pytest

from chatbot_operator.gates.volume import Evidence, judge_loss, judge_report, judge_volume
from chatbot_operator.model.objects import ChildState, Health, ObjectKey

BOUND = Health(ready=True, reason="Bound")
LOST = Health(ready=False, reason="ClaimLost", terminal=True)
PENDING = Health(ready=False, reason="Pending")


@dataclass(frozen=True)
class Row:
    """One case: a claim (None is absent) and three identifiers."""

    name: str
    claim: ChildState | None
    recorded: str
    recorded_uid: str
    kept: str
    decision: str
    reason: str


def claim(health: Health = BOUND, *, uid: str = "c1", identifier: str = "", deleting: bool = False) -> ChildState:
    details = {"phase": "Bound" if health is BOUND else "Lost" if health is LOST else "Pending", "systemIdentifier": identifier}
    return ChildState(ObjectKey("PersistentVolumeClaim", "n", "c"), uid, "1", "f", "i", "u", "", deleting, health, {}, details)


LOSS = ("stop", "DataLossSuspected")
FINE = ("ok", "Available")
ROWS = [
    Row("first install", None, "", "", "", *FINE),
    Row("fresh claim", claim(PENDING), "", "", "", *FINE),
    Row("bound, not bootstrapped", claim(), "", "", "", *FINE),
    Row("running", claim(identifier="7"), "7", "c1", "7", *FINE),
    Row("running, claim not marked yet", claim(), "7", "c1", "", *FINE),
    Row("marks were edited: the status knows better", claim(identifier="8"), "7", "c1", "9", *FINE),
    Row("claim gone under a running instance", None, "7", "c1", "7", *LOSS),
    Row("claim gone, only the Secret remembers", None, "", "", "7", *LOSS),
    Row("claim of another uid", claim(uid="c2", identifier="7"), "7", "c1", "7", *LOSS),
    Row("claim unbound under a running instance", claim(PENDING), "7", "c1", "7", *LOSS),
    Row("volume lost", claim(LOST), "7", "c1", "7", *LOSS),
    Row("volume lost before anything was recorded", claim(LOST), "", "", "", *LOSS),
    Row("claim being deleted with data", claim(identifier="7", deleting=True), "", "", "", *LOSS),
    Row("empty claim being deleted", claim(deleting=True), "", "", "", "wait", "Terminating"),
    Row("kept volume and Secret agree", claim(identifier="7"), "", "", "7", *FINE),
    Row("kept volume, Secret restored without a mark", claim(identifier="7"), "", "", "", *FINE),
    Row("kept volume and Secret disagree", claim(identifier="7"), "", "", "8", *LOSS),
]


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_a_volume_is_judged(row: Row) -> None:
    verdict = judge_volume(Evidence("c", row.claim, row.recorded, row.recorded_uid, row.kept))
    assert (verdict.decision.value, verdict.reason) == (row.decision, row.reason)
    if row.decision == "stop":
        assert "claim c" in verdict.message
        assert "until a person decides" in verdict.message


@pytest.mark.parametrize(("expected", "found", "fine"), [("", "7", True), ("7", "7", True), ("7", "8", False)])
def test_a_report_is_compared_with_what_is_expected(expected: str, found: str, fine: bool) -> None:
    assert judge_report(Evidence("c", claim(identifier=expected), "", "", ""), found).ok is fine


def test_a_loss_repeats_what_the_job_said() -> None:
    assert "it is empty" in judge_loss(Evidence("c", claim(), "", "", ""), "it is empty").message
