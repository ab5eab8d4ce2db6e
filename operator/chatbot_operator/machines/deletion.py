"""What happens when an instance is deleted. The finalizer exists only where something has to be cleaned up first.

deletionPolicy | finalizer | what is deleted by us
Retain         | none      | nothing: children die with their owner, volumes and generated Secrets stay
Delete         | ours      | workloads first, so that claims can go, then claims and generated Secrets of this very instance
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chatbot_operator.api.v1alpha1.instance import ChatbotInstanceSpec, DeletionPolicy
from chatbot_operator.constants import FINALIZER
from chatbot_operator.model.effect import Delete, Effect, SetFinalizer
from chatbot_operator.model.objects import ChildState
from chatbot_operator.model.snapshot import Snapshot
from chatbot_operator.model.verdict import OK, Verdict, wait

_WORKLOADS: Final = ("HorizontalPodAutoscaler", "Deployment", "StatefulSet", "Job")
_KEPT: Final = ("PersistentVolumeClaim", "Secret")


@dataclass(frozen=True, slots=True)
class DeletionDecision:
    """What to do, and why the instance is still there."""

    effects: tuple[Effect, ...]
    verdict: Verdict


def decide_finalizer(snapshot: Snapshot, spec: ChatbotInstanceSpec) -> tuple[SetFinalizer, ...]:
    """Return the change that makes the finalizer of a living instance fit its policy."""
    wanted = spec.deletion_policy is DeletionPolicy.DELETE
    return () if wanted == (FINALIZER in snapshot.identity.finalizers) else (SetFinalizer(wanted),)


def decide_deletion(snapshot: Snapshot) -> DeletionDecision:
    """Decide about an instance that is being deleted.

    In a terminating namespace everything goes anyway, and whatever waits there waits for ever: the instance is released at once. A spec
    that can't be read is taken as Retain: data is never deleted on a guess.
    """
    release = (SetFinalizer(False),) if FINALIZER in snapshot.identity.finalizers else ()
    cleans = snapshot.spec is not None and snapshot.spec.deletion_policy is DeletionPolicy.DELETE
    if not release or not cleans or snapshot.namespace_terminating:
        return DeletionDecision(release, OK)
    workloads, kept = _own(snapshot, _WORKLOADS), _own(snapshot, _KEPT)
    left = [*workloads, *kept]
    if not left:
        return DeletionDecision(release, OK)
    names = ", ".join(f"{child.key.kind} {child.key.name}" for child in left[:3])
    more = f" and {len(left) - 3} more" if len(left) > 3 else ""
    effects = tuple(Delete(child.key, child.uid) for child in left if not child.deleting)
    return DeletionDecision(effects, wait("Deleting", f"waiting until these are gone: {names}{more}"))


def _own(snapshot: Snapshot, kinds: Sequence[str]) -> list[ChildState]:
    """Return the children of these kinds that were made for this very instance, in the order of kinds."""
    uid = snapshot.identity.uid
    return [child for kind in kinds for key, child in sorted(snapshot.children.items()) if key.kind == kind and child.instance_uid == uid]
