"""Identity of the managed database: first the volume, then a bootstrap Job that says which database lies on it, then the server."""

from dataclasses import dataclass
from typing import Final

from chatbot_operator.api.v1alpha1.instance_status import DatabaseStatus, JobStatus
from chatbot_operator.desired import names
from chatbot_operator.desired.metadata import digest
from chatbot_operator.gates.volume import REASON, Evidence, judge_loss, judge_report, judge_volume
from chatbot_operator.machines.jobs import JobCase, JobDecision, decide_job, fail, judge_failed
from chatbot_operator.machines.world import World
from chatbot_operator.model.targets import JobTarget
from chatbot_operator.model.verdict import OK, Decision, Verdict, wait

_LOSSES: Final = frozenset({"DatabaseMissing", "WrongDatabase"})
"""What a bootstrap Job reports that was told which database it must find (docs/runtime-contract.md)."""

_BOOTSTRAPPING: Final = wait("Bootstrapping", "its database is being made, or looked for on a kept volume")
"""One verdict from the first pass until the result is known: each step would cost a write of the status."""


@dataclass(frozen=True, slots=True)
class DatabaseDecision:
    """New state, and what may be done: `verdict` OK means that the server may run on the volume."""

    status: DatabaseStatus
    verdict: Verdict
    job: JobStatus | None = None
    bootstrap: JobTarget | None = None

    @property
    def lost(self) -> bool:
        """Return whether data may be lost, so that nothing of the instance may be changed."""
        return self.verdict.decision is Decision.STOP and self.verdict.reason == REASON


def decide_database(world: World, ready: Verdict, *, may_start: bool) -> DatabaseDecision:
    """Decide about the managed database.

    Args:
        world: What is known.
        ready: Whether its Secrets exist.
        may_start: False while nothing new may be started (hibernation).
    """
    status = world.snapshot.status.database
    evidence = gather_evidence(world)
    verdict = judge_volume(evidence)
    recorded = world.job(names.BOOTSTRAP)
    if not verdict.ok:
        return DatabaseDecision(status, verdict, recorded)
    if status.system_identifier:
        return DatabaseDecision(status, OK, recorded)
    if evidence.claim is None:
        return DatabaseDecision(status, ready if ready.decision is Decision.STOP else _BOOTSTRAPPING, recorded)
    if not ready.ok:
        return DatabaseDecision(status, ready, recorded)
    return _bootstrap(world, evidence, evidence.claim.uid, may_start=may_start)


def gather_evidence(world: World) -> Evidence:
    """Return what claim, Secret and status say about the data."""
    status = world.snapshot.status.database
    claim_name = names.claim_name(world.name, status.volume_generation)
    secret = world.child("Secret", names.postgres_secret(world.name))
    return Evidence(
        claim_name=claim_name,
        claim=world.child("PersistentVolumeClaim", claim_name),
        recorded=status.system_identifier or "",
        recorded_uid=status.volume_uid or "",
        kept=secret.details.get("systemIdentifier", "") if secret else "",
    )


def _bootstrap(world: World, evidence: Evidence, claim_uid: str, *, may_start: bool) -> DatabaseDecision:
    status, now = world.snapshot.status.database, world.snapshot.now
    key = digest([world.uid, claim_uid, evidence.expected], size=5)
    state = world.job(names.BOOTSTRAP)
    attempt = state.attempt if state is not None and state.key == key else 1
    child = world.child("Job", names.job_name(world.name, "pg-bootstrap", key, attempt))
    if not may_start and not world.under_way(names.BOOTSTRAP, key, child):
        return DatabaseDecision(status, wait("NotBootstrapped", "the database is made when the instance runs"), state)
    case = JobCase(
        name=names.BOOTSTRAP,
        key=key,
        state=state,
        child=child,
        pods=world.pods(names.BOOTSTRAP),
        now=now,
        uid=world.uid,
        requested=world.requested,
    )
    decided = decide_job(case)
    if decided.report is not None:
        return _take_in(world, evidence, claim_uid, decided)
    target = JobTarget(key, decided.state.attempt, expected_identifier=evidence.expected) if decided.wanted else None
    verdict = world.name_claims(decided.verdict, names.POSTGRES)
    if verdict.reason in _LOSSES:
        verdict = judge_loss(evidence, decided.state.message)
    if verdict.reason == "JobRunning":
        verdict = _BOOTSTRAPPING
    return DatabaseDecision(status, verdict, decided.state, target)


def _take_in(world: World, evidence: Evidence, claim_uid: str, decided: JobDecision) -> DatabaseDecision:
    """Record the identity of the data, if it is the expected one."""
    status, now = world.snapshot.status.database, world.snapshot.now
    identifier = str((decided.report or {}).get("systemIdentifier") or "")
    if not identifier:
        failed = fail(decided.state, "ResultUnreadable", "the Job named no system identifier", now, world.uid)
        return DatabaseDecision(status, judge_failed(failed), failed)
    verdict = judge_report(evidence, identifier)
    if not verdict.ok:
        return DatabaseDecision(status, verdict, fail(decided.state, verdict.reason, verdict.message, now, world.uid))
    known = status.model_copy(update={"volume_uid": claim_uid, "system_identifier": identifier})
    return DatabaseDecision(known, OK, decided.state)
