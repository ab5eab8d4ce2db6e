"""Decides a whole pass: one snapshot in, one status and the effects that follow from it out. Pure: no I/O, clock or randomness."""

from collections.abc import Sequence

from chatbot_operator.api.v1alpha1.instance import Lifecycle
from chatbot_operator.api.v1alpha1.instance_status import ChatbotInstanceStatus
from chatbot_operator.constants import ANNOTATION_APPLY_UPDATE, ANNOTATION_RECONCILE_AT
from chatbot_operator.desired import names
from chatbot_operator.desired.inputs import Claim, Inputs, Observed
from chatbot_operator.desired.plan import render_plan
from chatbot_operator.machines.conditions import Conditions
from chatbot_operator.machines.convergence import Convergence, decide_convergence
from chatbot_operator.machines.deletion import decide_deletion, decide_finalizer
from chatbot_operator.machines.jobs import decide_outcome
from chatbot_operator.machines.retry import RetryCase, decide_retry
from chatbot_operator.machines.status import derive_status
from chatbot_operator.machines.steady import Steady, decide_steady
from chatbot_operator.machines.world import World
from chatbot_operator.model.decision import Decision
from chatbot_operator.model.effect import Apply, CreateSecret, Effect, SetFinalizer
from chatbot_operator.model.plan import Plan
from chatbot_operator.model.snapshot import Snapshot
from chatbot_operator.model.verdict import Verdict


def decide(snapshot: Snapshot) -> Decision:
    """Decide one pass.

    The steps, in order: deleted? spec invalid? then gates and machines set targets, targets are rendered, the result is compared with what
    lives, refused objects wait, and the status tells it all. While Paused all of it is observed and nothing is done.
    """
    if snapshot.identity.deleting or snapshot.namespace_terminating:
        return _decide_end(snapshot)
    if snapshot.spec is None:
        return _decide_invalid(snapshot)
    world = World(snapshot, snapshot.spec)
    steady = decide_steady(world)
    plan = render_plan(_inputs(world, steady))
    convergence = decide_convergence(world, plan, _readiness(world), may_update=_may_update(snapshot))
    if snapshot.spec.lifecycle is Lifecycle.PAUSED:
        return _observe_only(world, steady, convergence)
    case = RetryCase(snapshot.identity, snapshot.status.retry, snapshot.failures, snapshot.now, world.requested)
    retry = decide_retry(case, _guard(decide_finalizer(snapshot, snapshot.spec), [*steady.secrets.effects, *convergence.effects]))
    version = _operator_version(snapshot, plan, convergence)
    derived = derive_status(world, steady, convergence, retry.state, version)
    return Decision(derived.status, (*retry.effects, *derived.events), decide_outcome(snapshot.now, steady.jobs, retry.state))


def _inputs(world: World, steady: Steady) -> Inputs:
    """Return what rendering may know."""
    snapshot, app = world.snapshot, world.workload(names.APP)
    claims = {key.name: child.details for key, child in snapshot.children.items() if key.kind == "PersistentVolumeClaim"}
    replicas = app.details.get("replicas", "") if app else ""
    observed = Observed(
        claims={
            name: Claim(details.get("requested", ""), details.get("storageClass", ""), details.get("systemIdentifier", ""))
            for name, details in claims.items()
        },
        app_replicas=int(replicas) if replicas.isdigit() else None,
        app_replicas_foreign=bool(app and app.details.get("replicasManagers")),
    )
    return Inputs(
        namespace=snapshot.identity.namespace,
        name=world.name,
        uid=world.uid,
        spec=world.spec,
        targets=steady.targets,
        operator=snapshot.operator,
        secrets=snapshot.secrets,
        observed=observed,
        volume_generation=steady.database.status.volume_generation,
        system_identifier=steady.database.status.system_identifier or "",
    )


def _readiness(world: World) -> dict[str, Verdict]:
    """Return by stage whether its workload serves."""
    found = {component: world.judge(component) for component in (names.POSTGRES, names.REDIS, names.APP, names.SCHEDULER)}
    numbers = world.spec.worker_web.numbers
    return found | {names.web_component(number.name): world.judge(names.WORKER_WEB, number.name) for number in numbers}


def _may_update(snapshot: Snapshot) -> bool:
    """Return whether pod templates of a newer operator may be applied: a person asks for this version, and a slot is free."""
    asked = snapshot.identity.annotations.get(ANNOTATION_APPLY_UPDATE)
    return asked == snapshot.operator.version and snapshot.restart_slots > 0


def _operator_version(snapshot: Snapshot, plan: Plan, convergence: Convergence) -> str | None:
    """Return the operator version whose pod templates are applied; None while there are templates of several."""
    recorded, running = snapshot.status.operator_version, snapshot.operator.version
    if convergence.pending:
        return recorded if recorded != running else None
    return recorded if plan.untouched and recorded is not None else running


def _guard(finalizer: Sequence[SetFinalizer], effects: Sequence[Effect]) -> list[Effect]:
    """Return all effects; nothing that outlives the instance is made before the finalizer is there that would take it away again."""
    if not any(change.present for change in finalizer):
        return [*finalizer, *effects]
    return [*finalizer, *(effect for effect in effects if not _makes_what_outlives(effect))]


def _makes_what_outlives(effect: Effect) -> bool:
    return isinstance(effect, CreateSecret) or (isinstance(effect, Apply) and effect.manifest["kind"] == "PersistentVolumeClaim")


def _observe_only(world: World, steady: Steady, convergence: Convergence) -> Decision:
    """Return the status of a paused instance. The finalizer alone is kept right: it decides about data, not about pods."""
    snapshot = world.snapshot
    derived = derive_status(world, steady, convergence, snapshot.status.retry, snapshot.status.operator_version)
    return Decision(derived.status, (*decide_finalizer(snapshot, world.spec), *derived.events))


def _decide_end(snapshot: Snapshot) -> Decision:
    """Decide about an instance, or a whole namespace, that is going away."""
    decided = decide_deletion(snapshot)
    identity, reason, message = snapshot.identity, decided.verdict.reason, decided.verdict.message
    conditions = Conditions(snapshot.status.conditions, identity.generation, snapshot.now)
    conditions.put("Ready", False, reason, message)
    conditions.put("Reconciling", not decided.stalled, "Settled" if decided.stalled else reason, "" if decided.stalled else message)
    conditions.put("Stalled", decided.stalled, reason if decided.stalled else "NotStalled", message if decided.stalled else "")
    events = conditions.events() if not snapshot.namespace_terminating else ()
    handled = identity.annotations.get(ANNOTATION_RECONCILE_AT, snapshot.status.last_handled_reconcile_at)
    status = _with_conditions(snapshot, conditions).model_copy(update={"retry": decided.retry, "last_handled_reconcile_at": handled})
    return Decision(status, (*decided.effects, *events), decide_outcome(snapshot.now, (), decided.retry))


def _decide_invalid(snapshot: Snapshot) -> Decision:
    """Decide about an instance whose spec does not validate: what runs goes on, nothing is changed, a person has to act."""
    message = f"the spec is not valid: {snapshot.spec_error}; what runs goes on unchanged; correct the spec"
    conditions = Conditions(snapshot.status.conditions, snapshot.identity.generation, snapshot.now)
    conditions.put("Ready", False, "InvalidSpec", message)
    conditions.put("Reconciling", False, "Settled")
    conditions.put("Stalled", True, "InvalidSpec", message)
    return Decision(_with_conditions(snapshot, conditions), conditions.events())


def _with_conditions(snapshot: Snapshot, conditions: Conditions) -> ChatbotInstanceStatus:
    """Return the status with these conditions in front; the others stay as they were last observed, and a request stays open."""
    new = conditions.result()
    kept = [old for old in snapshot.status.conditions if old.type not in {condition.type for condition in new}]
    return snapshot.status.model_copy(update={"observed_generation": snapshot.identity.generation, "conditions": [*new, *kept]})
