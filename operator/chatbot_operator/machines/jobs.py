"""One Job until it succeeds: which attempt runs, what it reported, and whether another attempt can help.

state `outcome`   child                     -> new state
empty             absent                    -> make it (the attempt is in the status already)
empty             running, result pending   -> wait
empty             result Succeeded          -> Succeeded, recorded for ever
empty             result Failed             -> Failed; with a time for the next attempt where another can help
empty             no readable result        -> Failed/ResultUnreadable, again soon: Jobs are idempotent and report what they find
Failed            any                       -> at its time, or by request: the next attempt
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from chatbot_operator.api.v1alpha1.instance_status import JobStatus, RetryStatus
from chatbot_operator.constants import LABEL_COMPONENT
from chatbot_operator.gates.readiness import judge_pods
from chatbot_operator.machines.backoff import decide_delay, format_time, parse_due, parse_time
from chatbot_operator.model.objects import ChildState, ObjectKey
from chatbot_operator.model.outcome import Outcome
from chatbot_operator.model.verdict import OK, Verdict, stop, wait

_AGAIN: Final = frozenset(
    {"ResultUnreadable", "DatabaseUnreachable", "LockTimeout", "BootstrapFailed", "TargetBusy", "Terminated", "Killed"}
)
"""Failures that may pass by themselves. All others, also those that this version does not know, wait for a person."""
_MAX_MESSAGE: Final = 512
_HISTORY: Final = 3
"""Ended Jobs of a component that stay for people to read, until Kubernetes removes them too (`ttlSecondsAfterFinished`)."""


@dataclass(frozen=True, slots=True)
class JobCase:
    """What is known of a Job. `child` is the object of the state's current attempt. `requested` asks for another attempt now."""

    name: str
    key: str
    state: JobStatus | None
    child: ChildState | None
    pods: tuple[ChildState, ...]
    now: datetime
    uid: str
    requested: bool = False


@dataclass(frozen=True, slots=True)
class JobDecision:
    """The new state, the verdict on it, and whether the Job object must exist now. `report` is what a fresh success said."""

    state: JobStatus
    verdict: Verdict
    wanted: bool
    report: dict[str, Any] | None = None


def decide_job(case: JobCase) -> JobDecision:
    """Decide the next step of a Job."""
    state = case.state
    if state is None or state.key != case.key:
        state = JobStatus(name=case.name, key=case.key)
    if state.outcome == "Failed":
        due = parse_due(state.next_time, case.now)
        if not case.requested and (due is None or case.now < due):
            return JobDecision(state, judge_failed(state), wanted=False)
        state = JobStatus(name=case.name, key=case.key, attempt=state.attempt + 1)
        return JobDecision(state, _running(state), wanted=True)
    if state.outcome:
        return JobDecision(state, OK, wanted=False)
    if case.child is None:
        return JobDecision(state, _running(state), wanted=True)
    return _decide_seen(case, state, case.child)


def judge_failed(state: JobStatus) -> Verdict:
    """Return the verdict on a Job whose last attempt failed."""
    told = f"attempt {state.attempt}: {state.message}"
    if state.next_time:
        return wait(state.reason, f"{told}; next attempt at {state.next_time}")
    return stop(state.reason, f"{told}; put its cause right, then change the spec or set the annotation reconcile-at to try again")


def fail(state: JobStatus, reason: str, message: str, now: datetime, uid: str) -> JobStatus:
    """Return the state of an attempt that failed."""
    after = timedelta(seconds=decide_delay(uid, state.attempt)) if reason in _AGAIN else None
    return state.model_copy(
        update={
            "outcome": "Failed",
            "reason": reason,
            "message": message[:_MAX_MESSAGE],
            "next_time": format_time(now + after) if after else None,
        }
    )


def find_surplus(jobs: Sequence[ChildState], states: Iterable[JobStatus]) -> frozenset[ObjectKey]:
    """Return which ended Jobs are too many, the oldest first to go: a database that is away for a day fails hundreds of attempts.

    Args:
        jobs: Those that may go.
        states: As they were read. Only Jobs whose last result is recorded there are judged: nothing is unread then.
    """
    found: set[ObjectKey] = set()
    for state in states:
        mine = (job for job in jobs if state.outcome and job.labels.get(LABEL_COMPONENT) == state.name)
        ended = sorted((job for job in mine if job.health.terminal and not job.deleting), key=lambda job: job.details.get("startTime", ""))
        found.update(job.key for job in ended[:-_HISTORY])
    return frozenset(found)


def decide_outcome(now: datetime, jobs: Iterable[JobStatus], retry: RetryStatus | None) -> Outcome:
    """Return when to look again without being woken: at the next attempt of a Job or of a refused object.

    An attempt that is due and was not made waits for something else, such as the end of hibernation, which wakes by itself.
    """
    times = [parse_time(job.next_time) for job in jobs if job.outcome == "Failed"]
    times += [parse_time(retry.next_time)] if retry is not None else []
    waits = [(moment - now).total_seconds() for moment in times if moment is not None and moment > now]
    return Outcome(requeue_after=min(waits, default=None), error=retry is not None)


def _decide_seen(case: JobCase, state: JobStatus, child: ChildState) -> JobDecision:
    health, result = child.health, child.health.result
    if result is not None and result.outcome == "Succeeded":
        done = state.model_copy(update={"outcome": "Succeeded", "reason": result.reason, "message": result.message[:_MAX_MESSAGE]})
        return JobDecision(done, OK, wanted=False, report=dict(result.data))
    if result is not None:
        failed = fail(state, result.reason, result.message, case.now, case.uid)
        return JobDecision(failed, judge_failed(failed), wanted=False)
    if health.ready is None:
        return JobDecision(state, _running(state), wanted=True)
    if health.terminal:
        failed = fail(state, "ResultUnreadable", health.message or "the Job ended without a result", case.now, case.uid)
        return JobDecision(failed, judge_failed(failed), wanted=False)
    trouble = judge_pods(pod for pod in case.pods if pod.owner_uid == child.uid)
    return JobDecision(state, trouble or _running(state), wanted=True)


def _running(state: JobStatus) -> Verdict:
    """Return one verdict from the decision to make a Job until its result is known: each step would cost a write of the status."""
    return wait("JobRunning", f"attempt {state.attempt} of the Job {state.name} is running")
