"""One backup for tests of its machine: its instance, its Jobs, and what a pass does to them."""

import itertools
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from chatbot_operator.api.v1alpha1.backup import ChatbotBackupSpec, ChatbotBackupStatus
from chatbot_operator.api.v1alpha1.common import Condition
from chatbot_operator.api.v1alpha1.instance import ChatbotInstanceSpec
from chatbot_operator.api.v1alpha1.instance_status import ChatbotInstanceStatus
from chatbot_operator.machines.backup import decide_backup
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
    migrating: bool = False
    deleting: bool = False
    annotations: dict[str, str] = field(default_factory=dict)
    failures: tuple[EffectFailure, ...] = ()
    now: datetime = datetime(2027, 1, 1, tzinfo=UTC)
    made: list[str] = field(default_factory=list)
    said: list[Emit] = field(default_factory=list)
    _uids: Any = field(default_factory=lambda: itertools.count(1))

    def snapshot(self) -> BackupSnapshot:
        return BackupSnapshot(
            identity=Identity("team", "nightly", "uid-b", 1, "1", dict(self.annotations), deleting=self.deleting, kind="ChatbotBackup"),
            spec=ChatbotBackupSpec.model_validate({"instanceRef": {"name": "shop"}}),
            spec_error="",
            status=self.status,
            instance=self.instance,
            children=dict(self.jobs),
            secrets=self.secrets,
            ahead=self.ahead,
            migrating=self.migrating,
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
