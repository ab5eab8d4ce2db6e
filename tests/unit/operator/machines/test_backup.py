"""Pure. One backup from its first pass to its proof: what it waits for, makes and says, and that dying anywhere harms nothing."""

import itertools
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot_operator.api.v1alpha1.backup import ChatbotBackupSpec, ChatbotBackupStatus
from chatbot_operator.api.v1alpha1.common import Condition
from chatbot_operator.api.v1alpha1.instance import ChatbotInstanceSpec
from chatbot_operator.api.v1alpha1.instance_status import ChatbotInstanceStatus
from chatbot_operator.constants import ANNOTATION_RECONCILE_AT
from chatbot_operator.machines.backoff import parse_time
from chatbot_operator.machines.backup import decide_backup, is_finished
from chatbot_operator.model.backup import BackupSnapshot, InstanceView
from chatbot_operator.model.decision import Decision
from chatbot_operator.model.effect import Apply, Delete, Emit
from chatbot_operator.model.objects import ChildState, Health, JobResult, ObjectKey, key_of
from chatbot_operator.model.snapshot import EffectFailure, Identity, OperatorFacts, SecretFacts

ARCHIVE = {"objectKey": "uid-i/logical/uid-b", "sizeBytes": 10, "sha256": "0" * 64, "keyFingerprint": "f" * 16}
STORED = {
    "version": 1,
    "job": "backup",
    "outcome": "Succeeded",
    "reason": "BackupStored",
    "message": "10 bytes were stored",
    "archive": ARCHIVE,
}
PROVEN = {"version": 1, "job": "backup-verify", "outcome": "Succeeded", "reason": "ReadCompletely", "message": "all 10 bytes were read"}
SECRETS = {
    "shop-postgres": SecretFacts("shop-postgres", {"owner-password": "1"}),
    "shop-backup-key": SecretFacts("shop-backup-key", {"identity": "2", "recipient": "3"}),
}


def instance(*, ready: bool = True, uid: str = "uid-i", deleting: bool = False, **spec: Any) -> InstanceView:
    body = {"release": {"version": "1.0", "image": "img@sha256:" + "a" * 64}, "backup": {}, **spec}
    times = {"observed_generation": 1, "last_transition_time": "2027-01-01T00:00:00Z"}
    conditions = [
        Condition(type="DatabaseReady", status="True" if ready else "False", reason="Available" if ready else "PodsNotReady", **times)
    ]
    return InstanceView(uid, deleting, ChatbotInstanceSpec.model_validate(body), ChatbotInstanceStatus(conditions=conditions))


@dataclass
class World:
    """A backup, its instance and its Jobs."""

    instance: InstanceView | None = field(default_factory=instance)
    status: ChatbotBackupStatus = field(default_factory=ChatbotBackupStatus)
    jobs: dict[ObjectKey, ChildState] = field(default_factory=dict)
    secrets: dict[str, SecretFacts | None] = field(default_factory=lambda: dict(SECRETS))
    ahead: tuple[str, ...] = ()
    annotations: dict[str, str] = field(default_factory=dict)
    failures: tuple[EffectFailure, ...] = ()
    now: datetime = datetime(2027, 1, 1, tzinfo=UTC)
    made: list[str] = field(default_factory=list)
    said: list[Emit] = field(default_factory=list)
    _uids: Any = field(default_factory=lambda: itertools.count(1))

    def snapshot(self) -> BackupSnapshot:
        return BackupSnapshot(
            identity=Identity("team", "nightly", "uid-b", 1, "1", dict(self.annotations), kind="ChatbotBackup"),
            spec=ChatbotBackupSpec.model_validate({"instanceRef": {"name": "shop"}}),
            spec_error="",
            status=self.status,
            instance=self.instance,
            children=dict(self.jobs),
            secrets=self.secrets,
            ahead=self.ahead,
            operator=OperatorFacts("1.0", "postgres:1", "redis:1"),
            now=self.now,
            failures=self.failures,
        )

    def run_pass(self, *, crash_after: int | None = None) -> Decision:
        """Make one pass. `crash_after` 0 dies before the status write, n before the n-th effect."""
        decision = decide_backup(self.snapshot())
        if crash_after == 0:
            return decision
        self.status = ChatbotBackupStatus.model_validate(decision.status.to_api())
        self.failures = ()
        for number, effect in enumerate(decision.effects, start=1):
            if crash_after is not None and number >= crash_after:
                break
            if isinstance(effect, Apply):
                self._apply(effect)
            elif isinstance(effect, Delete):
                del self.jobs[effect.key]
            elif isinstance(effect, Emit):
                self.said.append(effect)
        return decision

    def _apply(self, effect: Apply) -> None:
        key = key_of(effect.manifest)
        assert not effect.uid, "Jobs are made and never changed"
        if key not in self.jobs:
            self.made.append(key.name)
            self.jobs[key] = ChildState(
                key=key, uid=f"uid-job-{next(self._uids)}", resource_version="1", fingerprint=effect.fingerprint, instance="shop",
                instance_uid="uid-i", owner_uid="uid-b", deleting=False, health=Health(False, "Running"),
                labels=effect.manifest["metadata"]["labels"], details={},
            )  # fmt: skip

    def end(self, result: dict[str, Any] | None, reason: str = "Complete") -> None:
        """Let the newest Job end, with a result or without a readable one."""
        key, job = next((key, job) for key, job in self.jobs.items() if not job.health.terminal)
        job = replace(job, details={"startTime": self.now.isoformat()})
        if result is None:
            health = Health(False, "ResultUnreadable", "the Job ended but its result is missing", terminal=True)
        else:
            told = JobResult(result["outcome"], result["reason"], result["message"], result)
            health = Health(result["outcome"] == "Succeeded", result["reason"], result["message"], terminal=True, result=told)
        self.jobs[key] = replace(job, health=health)

    def condition(self, kind: str) -> tuple[str, str]:
        found = next(item for item in self.status.conditions if item.type == kind)
        return found.status, found.reason


def failed(reason: str, job: str = "backup") -> dict[str, Any]:
    return {"version": 1, "job": job, "outcome": "Failed", "reason": reason, "message": f"because of {reason}"}


def proven() -> World:
    world = World()
    for result in (STORED, PROVEN):
        world.run_pass()
        world.end(result)
        world.run_pass()
    return world


def test_a_backup_is_made_then_proven_and_then_costs_nothing() -> None:
    world = World()
    world.run_pass()
    assert (world.condition("Succeeded"), world.condition("Verified")) == (("Unknown", "JobRunning"), ("Unknown", "WaitsForBackup"))
    world.now += timedelta(seconds=40)
    world.end(STORED)
    world.run_pass()
    assert (world.condition("Succeeded"), world.condition("Verified")) == (("True", "BackupStored"), ("Unknown", "JobRunning"))
    assert world.status.archive is not None
    assert (world.status.archive.object_key, world.status.duration_seconds) == ("uid-i/logical/uid-b", 40)
    world.end(PROVEN)
    world.run_pass()
    assert world.condition("Verified") == ("True", "ReadCompletely")
    before = world.status
    for _ in range(3):
        assert not world.run_pass().effects
    assert world.status == before
    assert [name.rsplit("-", 2)[0] for name in world.made] == ["backup", "backup-verify"]
    assert is_finished(world.status.to_api())


@pytest.mark.parametrize(
    ("change", "succeeded"),
    [
        ({"instance": None}, ("Unknown", "InstanceNotFound")),
        ({"instance": instance(deleting=True)}, ("Unknown", "InstanceNotFound")),
        ({"instance": instance(backup=None)}, ("False", "NoTarget")),
        ({"instance": instance(lifecycle="Paused")}, ("Unknown", "InstancePaused")),
        ({"instance": instance(lifecycle="Hibernated")}, ("Unknown", "InstanceHibernated")),
        ({"instance": instance(ready=False)}, ("Unknown", "WaitsForDatabase")),
        ({"instance": replace(instance(), spec=None)}, ("Unknown", "InstanceInvalid")),
        ({"ahead": ("earlier",)}, ("Unknown", "Queued")),
        ({"secrets": {**SECRETS, "shop-backup-key": None}}, ("Unknown", "DependencyMissing")),
    ],
)
def test_what_it_waits_for_is_named_nothing_is_made_and_it_goes_on_by_itself(change: dict[str, Any], succeeded: tuple[str, str]) -> None:
    world = World(**change)
    world.run_pass()
    assert world.condition("Succeeded") == succeeded
    assert world.condition("Verified")[0] == "Unknown"
    assert not world.made
    assert world.status.start_time is None, "the clock of its duration starts with its work"
    world.instance, world.ahead, world.secrets = instance(), (), dict(SECRETS)
    world.run_pass()
    assert len(world.made) == 1


def test_an_external_database_needs_no_condition_of_the_instance() -> None:
    spec = {"database": {"mode": "External", "external": {"urlRef": {"name": "db", "key": "url"}}}}
    world = World(instance=instance(ready=False, **spec), secrets={**SECRETS, "db": SecretFacts("db", {"url": "1"})})
    world.run_pass()
    assert len(world.made) == 1


def test_a_failure_that_may_pass_is_tried_again_at_its_time_and_others_wait_for_a_person() -> None:
    world = World()
    world.run_pass()
    world.end(failed("DatabaseUnreachable"))
    decision = world.run_pass()
    assert world.condition("Succeeded") == ("False", "DatabaseUnreachable")
    assert decision.outcome.requeue_after is not None
    assert len(world.made) == 1
    world.now += timedelta(seconds=decision.outcome.requeue_after)
    world.run_pass()
    assert len(world.made) == 2
    world.end(failed("TargetFull"))
    world.run_pass()
    world.now += timedelta(days=1)
    world.run_pass()
    assert world.condition("Succeeded") == ("False", "TargetFull")
    assert len(world.made) == 2
    assert is_finished(world.status.to_api()), "it holds up no other"
    world.annotations[ANNOTATION_RECONCILE_AT] = "now"
    world.run_pass()
    assert len(world.made) == 3
    assert world.status.last_handled_reconcile_at == "now"


@pytest.mark.parametrize(
    ("reason", "verified"),
    [
        ("HashMismatch", "False"),
        ("DecryptFailed", "False"),
        ("ManifestMissing", "False"),
        ("KeyMismatch", "False"),
        ("TargetUnavailable", "Unknown"),
        ("DeadlineExceeded", "Unknown"),
    ],
)
def test_a_bad_archive_is_not_verified_and_one_that_could_not_be_read_is_unknown(reason: str, verified: str) -> None:
    world = World()
    world.run_pass()
    world.end(STORED)
    world.run_pass()
    world.end(failed(reason, "backup-verify"))
    world.run_pass()
    assert world.condition("Verified") == (verified, reason)
    assert world.condition("Succeeded") == ("True", "BackupStored")
    world.now += timedelta(days=1)
    assert not [effect for effect in world.run_pass().effects if isinstance(effect, Apply)], "a person has to look"


def test_a_lost_result_runs_the_same_job_again_and_the_archive_is_of_whoever_reports() -> None:
    world = World()
    world.run_pass()
    world.end(None)
    decision = world.run_pass()
    assert world.condition("Succeeded") == ("False", "ResultUnreadable")
    world.now += timedelta(seconds=decision.outcome.requeue_after or 0)
    world.run_pass()
    world.end({**STORED, "reason": "AlreadyStored"})
    world.run_pass()
    assert world.condition("Succeeded")[0] == "True"
    assert world.made[0] != world.made[1]


def test_a_success_that_does_not_say_what_was_stored_is_none() -> None:
    world = World()
    world.run_pass()
    world.end({**STORED, "archive": {"objectKey": 7}})
    world.run_pass()
    assert world.condition("Succeeded") == ("False", "ResultUnreadable")
    assert world.status.archive is None


def test_a_job_at_work_is_followed_to_its_end_whatever_becomes_of_the_instance() -> None:
    world = World()
    world.run_pass()
    world.instance = None
    world.run_pass()
    assert world.condition("Succeeded") == ("Unknown", "JobRunning")
    world.end(STORED)
    world.run_pass()
    assert world.condition("Succeeded")[0] == "True"
    assert world.condition("Verified") == ("Unknown", "InstanceNotFound")
    world.instance = instance(uid="another")
    world.run_pass()
    assert world.condition("Verified") == ("False", "InstanceReplaced")
    assert is_finished(world.status.to_api())


def test_a_refused_job_is_named_and_tried_again_later() -> None:
    world = World()
    decision = decide_backup(world.snapshot())
    job = next(key_of(effect.manifest) for effect in decision.effects if isinstance(effect, Apply))
    world.status = ChatbotBackupStatus.model_validate(decision.status.to_api())
    world.failures = (EffectFailure(job, "QuotaExceeded", "no more Jobs"),)
    decision = world.run_pass()
    assert world.condition("Succeeded") == ("False", "QuotaExceeded")
    assert not world.made
    assert world.status.retry is not None
    due = parse_time(world.status.retry.next_time)
    assert due is not None
    world.now = due
    world.run_pass()
    assert len(world.made) == 1
    world.run_pass()
    assert world.status.retry is None


def test_of_many_failed_attempts_only_the_last_ones_stay() -> None:
    world = World()
    for _ in range(8):
        decision = world.run_pass()
        if any(not job.health.terminal for job in world.jobs.values()):
            world.end(failed("DatabaseUnreachable"))
            decision = world.run_pass()
        world.now += timedelta(seconds=decision.outcome.requeue_after or 0)
    assert len(world.made) >= 6
    assert len(world.jobs) <= 4


def test_only_a_proven_backup_is_never_looked_at_again_without_a_reason() -> None:
    assert proven().run_pass().outcome.over
    world = World()
    assert not world.run_pass().outcome.over
    world.end(failed("TargetFull"))
    assert not world.run_pass().outcome.over


def test_people_hear_of_a_proof_that_fails() -> None:
    world = proven()
    assert not [event for event in world.said if event.type == "Warning"]


@given(crashes=st.lists(st.integers(min_value=0, max_value=3), max_size=8), lost=st.booleans())
def test_dying_anywhere_ends_in_the_same_state(crashes: list[int], lost: bool) -> None:
    calm = proven()
    world = World()
    plan = iter(crashes)
    results = iter([None, STORED, PROVEN] if lost else [STORED, PROVEN])
    for _ in range(40):
        world.run_pass(crash_after=next(plan, None))
        running = [job for job in world.jobs.values() if not job.health.terminal]
        assert len(running) <= 1
        if running:
            world.end(next(results))
        world.now += timedelta(minutes=20)
    assert world.condition("Verified") == ("True", "ReadCompletely")
    assert world.status.archive == calm.status.archive
    assert len(world.made) == (3 if lost else 2)
