"""Pure. Each row of the table of `machines/jobs.py`."""

from datetime import UTC, datetime, timedelta

import pytest

from chatbot_operator.api.v1alpha1.instance_status import JobStatus
from chatbot_operator.machines.jobs import JobCase, decide_job
from chatbot_operator.model.objects import ChildState, Health, JobResult, ObjectKey

NOW = datetime(2027, 1, 1, tzinfo=UTC)


def job(health: Health) -> ChildState:
    return ChildState(ObjectKey("Job", "n", "j"), "ju", "1", "f", "i", "iu", "iu", False, health, {}, {})


def result(outcome: str, reason: str) -> Health:
    said = JobResult(outcome, reason, "it said so", {"revision": "7"})
    return Health(ready=outcome == "Succeeded", reason=reason, terminal=True, result=said)


def case(state: JobStatus | None, health: Health | None = None, *, now: datetime = NOW, requested: bool = False) -> JobCase:
    return JobCase("migrate", "k", state, job(health) if health else None, (), now, "uid", requested)


RUNNING = Health(ready=False, reason="Running")
PENDING_RESULT = Health(ready=None, reason="ResultPending", message="not seen yet")
UNREADABLE = Health(ready=False, reason="ResultUnreadable", message="its result is missing", terminal=True)
DEADLINE = Health(ready=False, reason="DeadlineExceeded", message="too long", terminal=True)
OPEN = JobStatus(name="migrate", key="k", attempt=3)


@pytest.mark.parametrize(
    ("state", "health", "attempt", "outcome", "reason", "wanted"),
    [
        (None, None, 1, "", "JobRunning", True),
        (JobStatus(name="migrate", key="other", attempt=4, outcome="Failed"), None, 1, "", "JobRunning", True),
        (OPEN, None, 3, "", "JobRunning", True),
        (OPEN, RUNNING, 3, "", "JobRunning", True),
        (OPEN, PENDING_RESULT, 3, "", "JobRunning", True),
        (OPEN, result("Succeeded", "Migrated"), 3, "Succeeded", "Available", False),
        (OPEN, result("Failed", "MigrationFailed"), 3, "Failed", "MigrationFailed", False),
        (OPEN, result("Failed", "SomethingNew"), 3, "Failed", "SomethingNew", False),
        (OPEN, result("Failed", "LockTimeout"), 3, "Failed", "LockTimeout", False),
        (OPEN, UNREADABLE, 3, "Failed", "ResultUnreadable", False),
        (OPEN, DEADLINE, 3, "Failed", "ResultUnreadable", False),
        (OPEN.model_copy(update={"outcome": "Succeeded"}), None, 3, "Succeeded", "Available", False),
        (OPEN.model_copy(update={"outcome": "Succeeded"}), UNREADABLE, 3, "Succeeded", "Available", False),
    ],
)
def test_each_row(state: JobStatus | None, health: Health | None, attempt: int, outcome: str, reason: str, wanted: bool) -> None:
    decided = decide_job(case(state, health))
    assert (decided.state.attempt, decided.state.outcome) == (attempt, outcome)
    assert (decided.verdict.reason, decided.wanted) == (reason, wanted)
    assert decided.state.key == "k"


@pytest.mark.parametrize("reason", ["ResultUnreadable", "DatabaseUnreachable", "LockTimeout", "BootstrapFailed"])
def test_a_passing_failure_has_a_time_for_the_next_attempt(reason: str) -> None:
    failed = decide_job(case(OPEN, result("Failed", reason))).state
    assert failed.next_time is not None
    assert decide_job(case(failed)).verdict.decision.value == "wait"
    assert decide_job(case(failed, now=NOW + timedelta(hours=1))).state.attempt == 4


@pytest.mark.parametrize("reason", ["MigrationFailed", "HalfMigrated", "SchemaNewer", "DirectoryNotEmpty", "SomethingNew"])
def test_a_lasting_failure_waits_for_a_person(reason: str) -> None:
    failed = decide_job(case(OPEN, result("Failed", reason))).state
    assert failed.next_time is None
    assert decide_job(case(failed, now=NOW + timedelta(days=9))).verdict.decision.value == "stop"
    assert decide_job(case(failed, requested=True)).state.attempt == 4


def test_what_a_success_said_is_handed_on_once() -> None:
    assert decide_job(case(OPEN, result("Succeeded", "Migrated"))).report == {"revision": "7"}
    assert decide_job(case(OPEN.model_copy(update={"outcome": "Succeeded"}))).report is None
