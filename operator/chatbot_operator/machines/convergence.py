"""Compares the plan with what lives and decides what to apply, in dependency order, without restarting more than was asked for.

live object                         | what is done
absent                              | made, once the stages it needs are ready
being deleted                       | waited for
an earlier instance's, owned by it  | waited for: the garbage collector takes it
an earlier instance's, without owner| re-adopted
without any uid and not owned by us | left alone: somebody else made it, and only gave it our label
same fingerprint                    | nothing
pod template as before, or drifted  | applied at once: that repairs and restarts nothing that was not restarted already
template changed by a person        | applied once the stages it needs are ready
template changed by a newer operator| pending, until the instance holds a slot; then one stage after the other
a Job                               | never changed; taken away while it can't begin and another is wanted, or when newer ones have ended
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from chatbot_operator.constants import ANNOTATION_INPUTS_HASH, LABEL_COMPONENT, LABEL_INSTANCE, LABEL_INSTANCE_UID, LABEL_MANIFEST_HASH
from chatbot_operator.machines.jobs import find_surplus
from chatbot_operator.machines.world import World
from chatbot_operator.model.effect import Apply, Delete
from chatbot_operator.model.fingerprint import fingerprint, template_fingerprint
from chatbot_operator.model.objects import ChildState, Manifest, ObjectKey, key_of
from chatbot_operator.model.plan import Plan, Stage
from chatbot_operator.model.snapshot import Contest
from chatbot_operator.model.verdict import OK, Verdict, stop, wait

_PRUNED: Final = frozenset(
    {"Deployment", "StatefulSet", "Service", "ServiceAccount", "PodDisruptionBudget", "HorizontalPodAutoscaler", "NetworkPolicy"}
)
"""Claims and Secrets are kept; pods belong to their controllers; of ended Jobs the last ones are history."""


@dataclass(slots=True)
class Convergence:
    """The result: effects in order; a verdict for each stage that is not as rendered; stages with a pending operator update; what goes."""

    effects: list[Apply | Delete] = field(default_factory=list)
    unsettled: dict[str, Verdict] = field(default_factory=dict)
    pending: list[str] = field(default_factory=list)
    leaving: list[ObjectKey] = field(default_factory=list)
    """Of the plan's own kinds, no longer wanted and still there. Jobs are history, which keeps no generation from being reached."""


@dataclass(frozen=True, slots=True)
class _Course:
    """What the objects of one stage are decided with."""

    world: World
    stage: Stage
    needs: Verdict
    may_update: bool


def decide_convergence(world: World, plan: Plan, ready: Mapping[str, Verdict], *, may_update: bool) -> Convergence:
    """Decide what to apply and what to remove.

    Args:
        world: What is known.
        plan: What shall be.
        ready: By stage, whether its workload serves.
        may_update: Whether pod templates that changed only because of a newer operator may be applied now.
    """
    result = Convergence()
    open_stages: set[str] = set()
    for stage in plan.stages:
        closed = [need for need in stage.needs if need not in open_stages]
        needs = wait(f"WaitsFor{_camel(closed[0])}", f"it waits for {closed[0]}") if closed else OK
        settled = _converge_stage(_Course(world, stage, needs, may_update and not result.pending), result)
        if settled and ready.get(stage.name, OK).ok:
            open_stages.add(stage.name)
        elif may_update and stage.gate:
            # A newer operator's templates go on stage by stage: the next one waits until this one serves again.
            may_update = False
    unwanted = _unwanted(world, plan)
    result.effects += [Delete(child.key, child.uid) for child in unwanted if not child.deleting]
    result.leaving += [child.key for child in unwanted if child.key.kind in _PRUNED]
    return result


def _converge_stage(course: _Course, result: Convergence) -> bool:
    """Decide about the objects of one stage; return whether all are as rendered (a pending operator update counts as such)."""
    settled = True
    for manifest in course.stage.manifests:
        key = key_of(manifest)
        verdict, effect = _converge(course, key, manifest, fingerprint(manifest))
        if effect is not None:
            result.effects.append(effect)
        if verdict.reason == "PendingOperatorUpdate":
            result.pending += [course.stage.name] if course.stage.name not in result.pending else []
        elif not verdict.ok:
            settled = False
            result.unsettled.setdefault(course.stage.name, verdict)
    return settled


def _converge(course: _Course, key: ObjectKey, manifest: Manifest, wanted: str) -> tuple[Verdict, Apply | Delete | None]:
    child = course.world.snapshot.children.get(key)
    applying = wait("Applying", f"{key.kind} {key.name} is being applied")
    if child is None:
        return (applying, Apply(manifest, wanted)) if course.needs.ok else (course.needs, None)
    if child.deleting:
        return wait("Terminating", f"{key.kind} {key.name} is being deleted and is made again after that"), None
    if child.instance_uid != course.world.uid:
        if child.owner_uid not in ("", course.world.uid):
            return wait("PreviousInstanceTerminating", f"{key.kind} {key.name} of an earlier instance is still being removed"), None
        if not child.instance_uid and not child.owner_uid:
            return _not_ours(key), None
        return applying, Apply(manifest, wanted, child.uid)
    if child.fingerprint == wanted:
        return OK, None
    if key in course.stage.once:
        # A Job can't be changed. One that can't begin, for example for want of a pull Secret that was added since, is made again, but only
        # if it was made from another manifest: were it made from this one and changed by a webhook, that would go on for ever.
        other = child.labels.get(LABEL_MANIFEST_HASH) != manifest["metadata"]["labels"][LABEL_MANIFEST_HASH]
        return (applying, Delete(key, child.uid)) if other and course.world.is_blocked(child) else (OK, None)
    contest = course.world.snapshot.contested.get(key)
    if contest is not None and contest.fingerprint == wanted:
        return _contested(key, contest), None
    verdict = _judge_restart(course, manifest, child)
    return (applying, Apply(manifest, wanted, child.uid)) if verdict.ok else (verdict, None)


def _judge_restart(course: _Course, manifest: Manifest, child: ChildState) -> Verdict:
    """Return whether a changed object may be applied now, in view of the pods that it would restart or start."""
    template = template_fingerprint(manifest)
    if not template:
        return OK
    replicas = manifest["spec"].get("replicas")
    live_replicas = child.details.get("replicas", "")
    if replicas == 0:
        return OK
    if live_replicas == "0":
        return course.needs
    live_template = child.details.get("template", "")
    drifted = live_template != child.details.get("templateHash", "")
    if live_template == template or drifted:
        return OK
    if child.details.get("inputsHash") != manifest["metadata"]["annotations"][ANNOTATION_INPUTS_HASH]:
        return course.needs
    if replicas is not None and live_replicas != str(replicas):
        # Somebody scaled it. The template before can't be rendered any more, so that repair takes the new one along.
        return OK
    if course.may_update:
        return course.needs
    return wait("PendingOperatorUpdate", "the pod template of a newer operator is applied on request")


def _not_ours(key: ObjectKey) -> Verdict:
    told = f"{key.kind} {key.name} has the label {LABEL_INSTANCE} but not {LABEL_INSTANCE_UID}, so the operator did not make it"
    return stop("FieldConflict", f"{told}; rename or delete it")


def _contested(key: ObjectKey, contest: Contest) -> Verdict:
    who = ", ".join(contest.managers) or "somebody"
    what = ", ".join(contest.fields) or "fields"
    return stop(
        "FieldConflict",
        f"{who} keeps changing {what} of {key.kind} {key.name}, which the operator owns; make it stop, the operator tries again later",
    )


def _unwanted(world: World, plan: Plan) -> list[ChildState]:
    """Return what is ours, no longer wanted and not held. The owner proves that we made it: `kubectl expose` copies all labels."""
    wanted = {key_of(manifest) for stage in plan.stages for manifest in stage.manifests}
    ours = [child for key, child in sorted(world.snapshot.children.items()) if key not in wanted and child.owner_uid == world.uid]
    surplus = find_surplus([child for child in ours if child.key.kind == "Job"], world.snapshot.status.jobs)
    return [child for child in ours if child.key in surplus or _is_pruned(world, plan, child)]


def _is_pruned(world: World, plan: Plan, child: ChildState) -> bool:
    if child.key.kind == "Job":
        return world.is_blocked(child)
    return child.key.kind in _PRUNED and child.labels.get(LABEL_COMPONENT) not in plan.untouched


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("-"))
