"""One backup: wait for the database and for its turn, make it, prove it. Two conditions, because a stored backup is not yet a good one.

archive | Job             | next                                   | Succeeded            | Verified
absent  | may not run     | wait; the reason says for what         | Unknown              | Unknown/WaitsForBackup
absent  | absent, running | make `backup-<key>-<attempt>`, wait    | Unknown/JobRunning   | Unknown/WaitsForBackup
absent  | failed          | again at its time, or by request       | False/<its reason>   | Unknown/WaitsForBackup
absent  | succeeded       | record what was stored                 | True/BackupStored    | Unknown/JobRunning
stored  | absent, running | make `backup-verify-<key>-<n>`, wait   | True                 | Unknown/JobRunning
stored  | failed          | again where that helps, or by request  | True                 | False/<its reason>, or Unknown if not read
stored  | succeeded       | nothing ever again                     | True                 | True/ReadCompletely
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import ValidationError

from chatbot_operator.api.v1alpha1.backup import Archive, ChatbotBackupSpec, ChatbotBackupStatus
from chatbot_operator.api.v1alpha1.instance import ChatbotInstanceSpec, Lifecycle, Mode
from chatbot_operator.api.v1alpha1.instance_status import JobStatus
from chatbot_operator.constants import ANNOTATION_RECONCILE_AT
from chatbot_operator.desired import names
from chatbot_operator.desired.backup import Run, job_name, object_key, render_job
from chatbot_operator.desired.inputs import Inputs
from chatbot_operator.desired.metadata import digest
from chatbot_operator.desired.references import uses_of
from chatbot_operator.machines.backoff import format_time, parse_due, parse_time
from chatbot_operator.machines.conditions import Conditions
from chatbot_operator.machines.jobs import JobCase, JobDecision, decide_job, decide_outcome, fail, find_surplus, judge_failed
from chatbot_operator.machines.retry import RetryCase, decide_retry, judge_refusals
from chatbot_operator.model.backup import BackupSnapshot, InstanceView
from chatbot_operator.model.decision import Decision
from chatbot_operator.model.effect import Apply, Delete
from chatbot_operator.model.fingerprint import fingerprint
from chatbot_operator.model.objects import ChildState, ObjectKey
from chatbot_operator.model.targets import IDLE
from chatbot_operator.model.verdict import OK, Verdict, stop, wait
from chatbot_operator.model.verdict import Decision as Choice

_BAD: Final = frozenset(
    {
        "KeyMismatch",
        "ManifestMissing",
        "ManifestUnreadable",
        "ArchiveMissing",
        "SizeMismatch",
        "HashMismatch",
        "DecryptFailed",
        "ArchiveUnreadable",
    }
)
"""What a proof finds wrong with a backup itself. Whatever else keeps it from being read says nothing about it: Unknown."""
MAX_ATTEMPTS: Final = 12
"""Of each Job without a person: about half an hour of waiting, and no more load on a database for something that does not pass."""


@dataclass(frozen=True, slots=True)
class _Step:
    """What one Job of a backup amounts to: its state, the verdict, and the Job that must exist now."""

    verdict: Verdict
    job: JobStatus | None = None
    effects: tuple[Apply, ...] = ()
    report: Mapping[str, Any] | None = None


def decide_backup(snapshot: BackupSnapshot) -> Decision:
    """Decide one pass over a backup."""
    if snapshot.identity.deleting:
        return Decision(snapshot.status)
    conditions = Conditions(snapshot.status.conditions, snapshot.identity.generation, snapshot.now)
    if snapshot.spec is None:
        conditions.put("Succeeded", None, "InvalidSpec", snapshot.spec_error)
        conditions.put("Verified", None, "InvalidSpec", snapshot.spec_error)
        return Decision(_with(snapshot, snapshot.status, conditions), conditions.events())
    made = _make(snapshot, snapshot.spec)
    status = _take_in(snapshot, made)
    proved = _prove(snapshot, snapshot.spec, status)
    case = RetryCase(snapshot.identity, status.retry, snapshot.failures, snapshot.now, snapshot.requested)
    retry = decide_retry(case, [*made.effects, *proved.effects, *_tidy(snapshot)])
    refused = next(iter(judge_refusals(retry.state, snapshot.identity.namespace).values()), None)
    _judge(conditions, status, refused or made.verdict, refused or proved.verdict)
    jobs = [step.job for step in (made, proved) if step.job is not None]
    # A request for another attempt stays open until there was one.
    asked = snapshot.identity.annotations.get(ANNOTATION_RECONCILE_AT, status.last_handled_reconcile_at)
    handled = status.last_handled_reconcile_at if any(job.outcome == "Failed" for job in jobs) else asked
    status = status.model_copy(update={"jobs": jobs, "retry": retry.state, "last_handled_reconcile_at": handled})
    over = any(job.name == names.BACKUP_VERIFY and job.outcome == "Succeeded" for job in jobs)
    outcome = replace(decide_outcome(snapshot.now, jobs, retry.state), over=over)
    return Decision(_with(snapshot, status, conditions), (*retry.effects, *conditions.events()), outcome)


def _tidy(snapshot: BackupSnapshot) -> list[Delete]:
    """Return the deletion of ended Jobs that are too many."""
    jobs = [child for child in snapshot.children.values() if child.key.kind == "Job"]
    surplus = find_surplus(jobs, snapshot.status.jobs)
    return [Delete(job.key, job.uid) for job in jobs if job.key in surplus]


@dataclass(frozen=True, slots=True)
class Turn:
    """Whether a backup wants to go on, as its status tells it. `at` is the RFC 3339 time of its next attempt, None for now."""

    wants: bool
    at: str | None = None


def read_turn(status: Mapping[str, Any]) -> Turn:
    """Return what a stored status says about the turn. One that waits for a person, or for its next attempt, holds up no other."""
    reasons = {item.get("reason") for item in status.get("conditions") or () if isinstance(item, dict)}
    jobs = {job.get("name"): job for job in status.get("jobs") or () if isinstance(job, dict)}
    proof = jobs.get(names.BACKUP_VERIFY) or {}
    if proof.get("outcome") == "Succeeded" or reasons & {"InstanceReplaced", "InvalidSpec", "StatusUnreadable"}:
        return Turn(False)
    failed = next((job for job in jobs.values() if job.get("outcome") == "Failed"), None)
    return Turn(True) if failed is None else Turn(bool(failed.get("nextTime")), failed.get("nextTime"))


def judge_instance(snapshot: BackupSnapshot, component: str) -> Verdict:
    """Return whether a Job of a backup may run beside its instance as that is now. A proof needs no more than volume and key."""
    instance, known = snapshot.instance, snapshot.status.instance_uid
    if instance is None or instance.deleting:
        return wait("InstanceNotFound", "there is no instance of that name; it goes on once there is", unknown=True)
    if component == names.BACKUP and known and known != instance.uid:
        return stop("InstanceReplaced", "the instance is another one of the same name by now; make a new backup for it")
    if instance.spec is None:
        return wait("InstanceInvalid", "the spec of the instance does not validate; its condition Ready says why", unknown=True)
    if instance.spec.backup is None:
        return stop("NoTarget", "the instance has no spec.backup, so there is no place for backups; set it")
    if instance.spec.lifecycle is Lifecycle.PAUSED:
        return wait("InstancePaused", "nothing is made while the instance is Paused", unknown=True)
    return OK


def _judge_database(instance: InstanceView, spec: ChatbotInstanceSpec) -> Verdict:
    if spec.lifecycle is Lifecycle.HIBERNATED:
        return wait("InstanceHibernated", "the database is stopped; it is backed up once the instance runs", unknown=True)
    if spec.database.mode is Mode.EXTERNAL:
        return OK
    ready = next((item for item in instance.status.conditions if item.type == "DatabaseReady"), None)
    if ready is None or ready.status != "True":
        told = f" ({ready.reason})" if ready else ""
        return wait("WaitsForDatabase", f"the database does not serve{told}; the instance's condition DatabaseReady says why", unknown=True)
    return OK


def _judge_secrets(snapshot: BackupSnapshot, component: str, spec: ChatbotInstanceSpec) -> Verdict:
    for use in uses_of(component, snapshot.spec.instance_ref.name if snapshot.spec else "", spec):
        facts = snapshot.secrets.get(use.secret)
        if facts is None or use.key not in facts.keys:
            return wait("DependencyMissing", f"Secret {use.secret} with the key {use.key} does not exist (yet)", unknown=True)
    return OK


def _make(snapshot: BackupSnapshot, spec: ChatbotBackupSpec) -> _Step:
    """Decide about the Job that makes the backup. What is stored is never made again."""
    state = _job(snapshot, names.BACKUP)
    if snapshot.status.archive is not None:
        return _Step(OK, state)
    return _run(snapshot, spec, names.BACKUP, state)


def _prove(snapshot: BackupSnapshot, spec: ChatbotBackupSpec, status: ChatbotBackupStatus) -> _Step:
    """Decide about the Job that reads the backup back."""
    state = _job(snapshot, names.BACKUP_VERIFY)
    if status.archive is None:
        return _Step(wait("WaitsForBackup", "there is nothing to read back yet", unknown=True), state)
    if state is not None and state.outcome == "Succeeded":
        return _Step(Verdict(Choice.OK, state.reason, state.message), state)
    step = _run(snapshot, spec, names.BACKUP_VERIFY, state)
    return _Step(Verdict(Choice.OK, step.job.reason, step.job.message), step.job) if step.verdict.ok and step.job else step


def _run(snapshot: BackupSnapshot, spec: ChatbotBackupSpec, component: str, state: JobStatus | None) -> _Step:
    """Decide the next step of a Job. One that is at work is followed to its end, whatever became of the instance meanwhile."""
    key = digest([snapshot.identity.uid, component], size=5)
    attempt = state.attempt if state is not None and state.key == key else 1
    child = _child(snapshot, component, key, attempt)
    recorded = state is not None and bool(state.outcome)
    if child is None or recorded:
        may = _may_start(snapshot, component)
        if not may.ok:
            waits = state is not None and state.outcome == "Failed" and not _is_due(snapshot, state)
            return _Step(judge_failed(state) if waits and state else may, state)
    case = JobCase(
        name=component,
        key=key,
        state=state,
        child=child,
        pods=tuple(pod for pod in snapshot.children.values() if pod.key.kind == "Pod" and child is not None and pod.owner_uid == child.uid),
        now=snapshot.now,
        uid=snapshot.identity.uid,
        requested=snapshot.requested,
    )
    decided = decide_job(case)
    made = _child(snapshot, component, key, decided.state.attempt)
    effects = _render(snapshot, spec, component, decided.state) if decided.wanted and made is None else ()
    return _settle(snapshot, component, decided, effects)


def _settle(snapshot: BackupSnapshot, component: str, decided: JobDecision, effects: tuple[Apply, ...]) -> _Step:
    """Return the step of a decision; a success that says nothing of what was stored, or that is of another database, is none."""
    wrong = _judge_report(snapshot, decided.report) if component == names.BACKUP and decided.report is not None else OK
    if not wrong.ok:
        failed = _limit(fail(decided.state, wrong.reason, wrong.message, snapshot.now, snapshot.identity.uid))
        return _Step(judge_failed(failed), failed)
    if decided.state.outcome == "Failed":
        failed = _limit(_name_deadline(snapshot, component, decided.state))
        return _Step(judge_failed(failed), failed)
    unknown = decided.verdict.decision is Choice.WAIT and not decided.state.outcome
    verdict = wait(decided.verdict.reason, decided.verdict.message, unknown=True) if unknown else decided.verdict
    return _Step(verdict, decided.state, effects, decided.report)


def _judge_report(snapshot: BackupSnapshot, report: Mapping[str, Any]) -> Verdict:
    archive, instance = _archive(report), snapshot.instance
    if archive is None:
        return stop("ResultUnreadable", "the Job did not say what it stored")
    known = instance.status.database.system_identifier if instance is not None else None
    if known and archive.system_identifier and archive.system_identifier != known:
        return stop("WrongDatabase", f"the Job read the database {archive.system_identifier}, and the instance's is {known}")
    return OK


def _name_deadline(snapshot: BackupSnapshot, component: str, state: JobStatus) -> JobStatus:
    """Return the state of a Job that Kubernetes ended for its time, which its pod could not report, by that name."""
    child = _child(snapshot, component, state.key, state.attempt)
    if state.reason != "ResultUnreadable" or child is None or child.details.get("ended") != "DeadlineExceeded":
        return state
    told = "the Job was not done in its time; make a backup with a longer timeoutSeconds"
    return fail(state, "DeadlineExceeded", told, snapshot.now, snapshot.identity.uid)


def _limit(state: JobStatus) -> JobStatus:
    """Return the state without a next attempt once there were enough."""
    return state if state.attempt < MAX_ATTEMPTS else state.model_copy(update={"next_time": None})


def _is_due(snapshot: BackupSnapshot, state: JobStatus) -> bool:
    due = parse_due(state.next_time, snapshot.now)
    return snapshot.requested or (due is not None and due <= snapshot.now)


def _may_start(snapshot: BackupSnapshot, component: str) -> Verdict:
    verdict = judge_instance(snapshot, component)
    instance = snapshot.instance
    if not verdict.ok or instance is None or instance.spec is None:
        return verdict
    if snapshot.ahead:
        return wait("Queued", f"one backup at a time: {', '.join(snapshot.ahead[:3])} goes first", unknown=True)
    if snapshot.migrating:
        return wait("MigrationRunning", "a migration and a backup would wait for each other's locks; it goes first", unknown=True)
    database = _judge_database(instance, instance.spec) if component == names.BACKUP else OK
    return database if not database.ok else _judge_secrets(snapshot, component, instance.spec)


def _render(snapshot: BackupSnapshot, spec: ChatbotBackupSpec, component: str, state: JobStatus) -> tuple[Apply, ...]:
    identity, instance = snapshot.identity, snapshot.instance
    if instance is None or instance.spec is None:
        return ()
    inputs = Inputs(
        namespace=identity.namespace,
        name=spec.instance_ref.name,
        uid=instance.uid,
        spec=instance.spec,
        targets=IDLE,
        operator=snapshot.operator,
        secrets=snapshot.secrets,
    )
    known = snapshot.status.archive
    run = Run(
        identity.name,
        identity.uid,
        known.object_key if known else object_key(instance.uid, identity.uid),
        state.key,
        state.attempt,
        spec.timeout_seconds,
        sha256=known.sha256 if known else "",
        size_bytes=known.size_bytes if known else 0,
    )
    manifest = render_job(inputs, component, run)
    return (Apply(manifest, fingerprint(manifest)),)


def _take_in(snapshot: BackupSnapshot, made: _Step) -> ChatbotBackupStatus:
    """Return the status with what is known after this step: when it began, for which instance, and what was stored."""
    status, now = snapshot.status, format_time(snapshot.now)
    update: dict[str, Any] = {}
    if status.start_time is None and made.job is not None and snapshot.instance is not None:
        update |= {"start_time": now, "instance_uid": snapshot.instance.uid}
    archive = _archive(made.report) if made.report is not None else None
    if archive is not None:
        began = parse_time(status.start_time) or snapshot.now
        update |= {"archive": archive, "completion_time": now, "duration_seconds": max(0, int((snapshot.now - began).total_seconds()))}
    return status.model_copy(update=update)


def _archive(report: Mapping[str, Any]) -> Archive | None:
    """Return what a Job said that it stored, or None where it can't be understood. Strange tables are no reason to doubt the rest."""
    told = report.get("archive")
    if not isinstance(told, Mapping):
        return None
    for candidate in (told, {**told, "tables": []}):
        try:
            return Archive.model_validate(candidate)
        except ValidationError:
            continue
    return None


def _child(snapshot: BackupSnapshot, component: str, key: str, attempt: int) -> ChildState | None:
    return snapshot.children.get(ObjectKey("Job", snapshot.identity.namespace, job_name(component, key, attempt)))


def _job(snapshot: BackupSnapshot, name: str) -> JobStatus | None:
    return next((job for job in snapshot.status.jobs if job.name == name), None)


def _judge(conditions: Conditions, status: ChatbotBackupStatus, made: Verdict, proved: Verdict) -> None:
    archive = status.archive
    if archive is not None:
        conditions.put("Succeeded", True, "BackupStored", f"{archive.size_bytes} bytes in {archive.object_key}")
    else:
        conditions.judge("Succeeded", made)
    if archive is not None and not proved.ok and proved.reason not in _BAD:
        proved = wait(proved.reason, proved.message, unknown=True)
    if archive is None:
        proved = wait("WaitsForBackup", made.message, unknown=True)
    conditions.judge("Verified", proved)


def _with(snapshot: BackupSnapshot, status: ChatbotBackupStatus, conditions: Conditions) -> ChatbotBackupStatus:
    return status.model_copy(update={"observed_generation": snapshot.identity.generation, "conditions": conditions.result()})
