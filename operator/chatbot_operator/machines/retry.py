"""Back-off of refused effects, kept in the status so that a restarted operator waits too. It concerns only the objects that were refused.

An object leaves the back-off when nothing is to be done about it any more, a new generation or a person's request ends it at once.
The next attempt is counted and its successor's time written before it is made: a crash in between costs one wait, never a hot loop.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from chatbot_operator.api.v1alpha1.instance_status import RetryFailure, RetryStatus
from chatbot_operator.machines.backoff import decide_delay, format_time, parse_due
from chatbot_operator.model.effect import Apply, CreateSecret, Delete, Effect, PatchMetadata, SetFinalizer
from chatbot_operator.model.objects import ObjectKey, key_of
from chatbot_operator.model.snapshot import EffectFailure, Identity
from chatbot_operator.model.verdict import Verdict, stop, wait

_MAX_FAILURES = 16
_MAX_MESSAGE = 512
_NEEDS_PERSON: Final = frozenset({"QuotaExceeded", "Forbidden"})
"""Refusals that waiting does not end, although the same request may succeed later."""


@dataclass(frozen=True, slots=True)
class RetryCase:
    """What is known: the state, what was just refused, and whether a person asks for another try."""

    identity: Identity
    state: RetryStatus | None
    failures: tuple[EffectFailure, ...]
    now: datetime
    requested: bool


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """The new state and the effects that may be made now."""

    state: RetryStatus | None
    effects: tuple[Effect, ...]


def decide_retry(case: RetryCase, effects: Sequence[Effect]) -> RetryDecision:
    """Take the effects out that have to wait, and remember why."""
    wanted = {str(target) for effect in effects if (target := _target(case.identity, effect)) is not None}
    state = case.state
    if case.requested or (state is not None and state.generation != case.identity.generation):
        return RetryDecision(None, tuple(effects))
    known = {failure.object: failure for failure in (state.failures if state else ())}
    fresh = {str(failure.key): _remember(failure, known.get(str(failure.key)), case.now) for failure in case.failures}
    failing = {name: failure for name, failure in {**known, **fresh}.items() if name in wanted}
    if not failing:
        return RetryDecision(None, tuple(effects))
    failures = list(failing.values())[:_MAX_FAILURES]
    if state is None:
        return _hold_back(case, effects, failures, _next(case, failures, attempts=1))
    due = parse_due(state.next_time, case.now)
    if due is not None and case.now < due:
        return _hold_back(case, effects, failures, state)
    return RetryDecision(_with(_next(case, failures, attempts=state.attempts + 1), failures), tuple(effects))


def judge_refusals(state: RetryStatus | None, namespace: str) -> dict[str, Verdict]:
    """Return the verdicts on refused objects, by object."""
    if state is None:
        return {}
    found = {}
    for failure in state.failures:
        since = f" since {failure.since}" if failure.since else ""
        text = f"{failure.message}; refused{since}, next try at {state.next_time}"
        judge = stop if failure.stuck or failure.reason in _NEEDS_PERSON else wait
        found[failure.object.replace(f"{namespace}/", "")] = judge(failure.reason, text)
    return found


def _hold_back(case: RetryCase, effects: Sequence[Effect], failures: list[RetryFailure], state: RetryStatus) -> RetryDecision:
    waiting = {failure.object for failure in failures}
    return RetryDecision(_with(state, failures), tuple(e for e in effects if str(_target(case.identity, e)) not in waiting))


def _next(case: RetryCase, failures: list[RetryFailure], *, attempts: int) -> RetryStatus:
    delay = decide_delay(case.identity.uid, attempts, stuck=all(failure.stuck for failure in failures))
    return RetryStatus(attempts=attempts, next_time=format_time(case.now + timedelta(seconds=delay)), generation=case.identity.generation)


def _with(state: RetryStatus, failures: list[RetryFailure]) -> RetryStatus:
    return state.model_copy(update={"failures": failures})


def _remember(failure: EffectFailure, known: RetryFailure | None, now: datetime) -> RetryFailure:
    return RetryFailure(
        object=str(failure.key),
        reason=failure.reason,
        message=failure.message[:_MAX_MESSAGE],
        stuck=failure.stuck,
        since=(known.since if known is not None else None) or format_time(now),
    )


def _target(identity: Identity, effect: Effect) -> ObjectKey | None:
    match effect:
        case Apply():
            return key_of(effect.manifest)
        case CreateSecret():
            return ObjectKey("Secret", identity.namespace, effect.request.name)
        case Delete() | PatchMetadata():
            return effect.key
        case SetFinalizer():
            return ObjectKey(identity.kind, identity.namespace, identity.name)
        case _:
            return None
