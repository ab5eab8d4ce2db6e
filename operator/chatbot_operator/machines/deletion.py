"""What happens when an instance is deleted. The finalizer exists only where something has to be cleaned up first.

deletionPolicy | finalizer | what is deleted by us
Retain         | none      | nothing: children die with their owner, volumes and generated Secrets stay
Delete         | ours      | workloads first, so that claims can go, then claims and generated Secrets of this very instance; never backups
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from chatbot_operator.api.v1alpha1.instance import ChatbotInstanceSpec, DeletionPolicy
from chatbot_operator.api.v1alpha1.instance_status import RetryStatus
from chatbot_operator.constants import FINALIZER, LABEL_COMPONENT
from chatbot_operator.desired import names
from chatbot_operator.machines.conditions import worst
from chatbot_operator.machines.retry import RetryCase, decide_retry, judge_refusals
from chatbot_operator.model.effect import Delete, Effect, SetFinalizer
from chatbot_operator.model.objects import ChildState
from chatbot_operator.model.snapshot import Snapshot
from chatbot_operator.model.verdict import Decision, Verdict, wait

_KINDS: Final = ("HorizontalPodAutoscaler", "Deployment", "StatefulSet", "Job", "PersistentVolumeClaim", "Secret")
"""Workloads first, so that claims can go."""
_TOLD: Final = 3
"""Objects that a message names."""


@dataclass(frozen=True, slots=True)
class DeletionDecision:
    """What to do, why the instance is still there, and the back-off of what was refused."""

    effects: tuple[Effect, ...]
    verdict: Verdict
    retry: RetryStatus | None

    @property
    def stalled(self) -> bool:
        """Return whether it goes on only once a person has acted."""
        return self.verdict.decision is Decision.STOP


def decide_finalizer(snapshot: Snapshot, spec: ChatbotInstanceSpec) -> tuple[SetFinalizer, ...]:
    """Return the change that makes the finalizer of a living instance fit its policy."""
    wanted = spec.deletion_policy is DeletionPolicy.DELETE
    return () if wanted == (FINALIZER in snapshot.identity.finalizers) else (SetFinalizer(wanted),)


def decide_deletion(snapshot: Snapshot) -> DeletionDecision:
    """Decide about an instance that is being deleted.

    In a terminating namespace everything goes anyway, and whatever waits there waits for ever: the instance is released at once. A spec
    that can't be read is taken as Retain: data is never deleted on a guess.
    """
    identity = snapshot.identity
    ours = FINALIZER in identity.finalizers
    cleans = snapshot.spec is not None and snapshot.spec.deletion_policy is DeletionPolicy.DELETE
    left = _left(snapshot) if ours and cleans and not snapshot.namespace_terminating else []
    effects: list[Effect] = [Delete(child.key, child.uid) for child in left if not child.deleting]
    if ours and not left:
        effects.append(SetFinalizer(False))
    case = RetryCase(identity, snapshot.status.retry, snapshot.failures, snapshot.now, snapshot.requested)
    retry = decide_retry(case, effects)
    refused = judge_refusals(retry.state, identity.namespace)
    told = "; ".join([*_tell_refused(refused), *_tell_held(left), *_tell_waiting(left)]) or _tell_rest(identity.finalizers)
    cause = worst(refused.values())
    return DeletionDecision(retry.effects, replace(cause, message=told) if cause else wait("Deleting", told), retry.state)


def _left(snapshot: Snapshot) -> list[ChildState]:
    """Return what was made for this very instance and has to go first, in the order of kinds."""
    uid = snapshot.identity.uid
    mine = [child for _, child in sorted(snapshot.children.items()) if child.instance_uid == uid and not _outlives(child)]
    return [child for kind in _KINDS for child in mine if child.key.kind == kind]


def _outlives(child: ChildState) -> bool:
    """Return whether it belongs to backups: these, their volume and their key are what is left when all else is gone."""
    return child.labels.get(LABEL_COMPONENT) in (names.BACKUP, names.BACKUP_VERIFY)


def _tell_refused(refused: Mapping[str, Verdict]) -> list[str]:
    """Return the gravest refusal in full: others mostly have the same cause, and all are in `status.retry`."""
    gravest = worst(refused.values())
    name = next((name for name, verdict in refused.items() if verdict is gravest), "")
    more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
    hint = "let the operator do it, or do it by hand"
    return [f"{name}{more} can't be deleted or released: {gravest.message}", hint] if gravest else []


def _tell_held(left: Sequence[ChildState]) -> list[str]:
    """Return which objects are marked as deleted and kept by finalizers: with nothing refused, only these tell why it takes long."""
    held = [child for child in left if child.details.get("finalizers")]
    hint = ["a claim is held until no pod uses it, others until whoever set their finalizer takes it away"] if held else []
    return [f"{_name(child)} is held since {child.details['deletedAt']} by {child.details['finalizers']}" for child in held[:_TOLD]] + hint


def _tell_waiting(left: Sequence[ChildState]) -> list[str]:
    told = ", ".join(_name(child) for child in left[:_TOLD])
    more = f" and {len(left) - _TOLD} more" if len(left) > _TOLD else ""
    return [f"waiting until these are gone: {told}{more}"] if left else []


def _tell_rest(finalizers: Sequence[str]) -> str:
    others = ", ".join(name for name in finalizers if name != FINALIZER)
    return f"somebody else's finalizer holds it: {others}" if others else "the rest is removed by Kubernetes"


def _name(child: ChildState) -> str:
    return f"{child.key.kind} {child.key.name}"
