"""Conditions by the Kubernetes API conventions: a time that moves only when the status flips, and an Event for each flip."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from chatbot_operator.api.v1alpha1.common import Condition
from chatbot_operator.machines.backoff import format_time, parse_time
from chatbot_operator.model.effect import Emit, EventType
from chatbot_operator.model.verdict import Decision, Verdict

_MAX_MESSAGE = 1024
_ABNORMAL_TRUE = frozenset({"Stalled", "Reconciling"})
_QUIET = frozenset({"Reconciling", "OperatorCurrent"})
_PLANNED = frozenset({"Paused", "Hibernated", "Progressing", "RolloutInProgress", "RollingOut", "JobRunning", "Deleting"})
"""Reasons that follow from what a person asked for; no warning is due."""
_SKEW = timedelta(minutes=1)
"""How far clocks of two operators may be apart before a time that one wrote counts as wrong for the other."""


class Conditions:
    """Builds the conditions of one pass from those of the last one."""

    def __init__(self, old: Iterable[Condition], generation: int, now: datetime) -> None:
        self._old = {condition.type: condition for condition in old}
        self._generation = generation
        self._now = now
        self._new: dict[str, Condition] = {}

    def put(self, kind: str, status: bool | None, reason: str, message: str = "") -> None:
        """Set a condition; None is Unknown."""
        text = {True: "True", False: "False", None: "Unknown"}[status]
        old = self._old.get(kind)
        since = self._since(old) if old is not None and old.status == text else format_time(self._now)
        self._new[kind] = Condition(
            type=kind,
            status=text,
            reason=reason,
            message=message[:_MAX_MESSAGE],
            observed_generation=self._generation,
            last_transition_time=since,
        )

    def _since(self, old: Condition) -> str:
        """Return the time that a condition keeps: its own, unless a clock that ran ahead put it into the future."""
        moment = parse_time(old.last_transition_time)
        return format_time(self._now) if moment is None or moment - self._now > _SKEW else old.last_transition_time

    def judge(self, kind: str, verdict: Verdict, message: str = "") -> None:
        """Set a condition from a verdict: True, False, or Unknown."""
        status = True if verdict.ok else None if verdict.unknown else False
        self.put(kind, status, verdict.reason, verdict.message or message)

    def result(self) -> list[Condition]:
        """Return the conditions in the order in which they were set; types that were not set are gone."""
        return list(self._new.values())

    def events(self) -> tuple[Emit, ...]:
        """Return an Event for each change that people should hear of."""
        return tuple(_event(condition) for kind, condition in self._new.items() if _is_news(self._old.get(kind), condition))


def worst(verdicts: Iterable[Verdict]) -> Verdict | None:
    """Return the verdict that matters most: one that needs a person, then a known fault, then the unknown; None if all are good."""
    bad = [verdict for verdict in verdicts if not verdict.ok]
    return min(bad, key=lambda verdict: (verdict.decision is not Decision.STOP, verdict.unknown), default=None)


def _is_news(old: Condition | None, new: Condition) -> bool:
    """Return whether people should hear of it: `Ready` for whatever reason, a need for a person, and what worked and no longer does."""
    if new.type == "Ready":
        return old is not None and (old.status, old.reason) != (new.status, new.reason)
    if new.type == "Stalled":
        return new.status == "True" and (old is None or (old.status, old.reason) != (new.status, new.reason))
    return new.type not in _QUIET and old is not None and old.status == "True" and new.status != "True"


def _event(condition: Condition) -> Emit:
    good = (condition.status == "False") if condition.type in _ABNORMAL_TRUE else (condition.status == "True")
    text = f"{condition.type} is {condition.status}: {condition.message}".rstrip(": ")
    return Emit(EventType.NORMAL if good or condition.reason in _PLANNED else EventType.WARNING, condition.reason, text)
