"""Derives the status from what was decided: the table of components, and conditions that a tired person understands."""

from collections.abc import Sequence
from dataclasses import dataclass

from chatbot_operator.api.v1alpha1.instance import Lifecycle
from chatbot_operator.api.v1alpha1.instance_status import ChatbotInstanceStatus, ComponentStatus, EndpointsStatus, RetryStatus
from chatbot_operator.constants import ANNOTATION_APPLY_UPDATE, ANNOTATION_RECONCILE_AT, APP_PORT
from chatbot_operator.desired import names
from chatbot_operator.desired.references import ADMIN_KEY
from chatbot_operator.machines.conditions import Conditions
from chatbot_operator.machines.convergence import Convergence
from chatbot_operator.machines.findings import Finding, Findings, gather_findings
from chatbot_operator.machines.scale import decide_stopped
from chatbot_operator.machines.steady import Steady
from chatbot_operator.machines.world import World
from chatbot_operator.model.effect import Emit
from chatbot_operator.model.verdict import OK, Decision, Verdict, wait

_MAX_MESSAGE = 512
_CONDITIONS = {
    "DatabaseReady": names.POSTGRES,
    "CacheReady": names.REDIS,
    "AppReady": names.APP,
    "SchedulerReady": names.SCHEDULER,
}
_PAIRING = "that says nothing about pairing: `channel` in the app's /healthz and each worker's log tell it"
"""The operator sees only whether a worker's pod is ready, and one whose number is not paired is."""
_TOLD = 3
"""Problems that `Ready` tells; the table of components has all."""


@dataclass(frozen=True, slots=True)
class Derived:
    """The status, and the Events that its changes are worth."""

    status: ChatbotInstanceStatus
    events: tuple[Emit, ...]


def derive_status(
    world: World, steady: Steady, convergence: Convergence, retry: RetryStatus | None, operator_version: str | None
) -> Derived:
    """Return the status of an instance that lives and whose spec is valid."""
    snapshot, identity = world.snapshot, world.snapshot.identity
    findings = gather_findings(world, steady, convergence, retry)
    conditions = Conditions(snapshot.status.conditions, identity.generation, snapshot.now)
    _summarize(conditions, world, steady, convergence, findings)
    _judge_components(conditions, world, findings)
    _judge_release(conditions, world, steady, findings)
    _judge_operator(conditions, world, convergence)
    paused = world.spec.lifecycle is Lifecycle.PAUSED
    before = snapshot.status
    release = steady.release.status if not paused else before.release.model_copy(update={"desired": world.spec.release.version})
    if not paused and _release_serves(findings, steady):
        release = release.model_copy(update={"stable": world.spec.release.version})
    status = before.model_copy(
        update={
            "observed_generation": identity.generation,
            "conditions": conditions.result(),
            "components": [_row(finding) for finding in findings.components],
            "release": release,
            "database": before.database if paused else steady.database.status,
            "endpoints": _endpoints(world),
            "jobs": before.jobs if paused else steady.jobs,
            "retry": before.retry if paused else retry,
            "operator_version": operator_version,
            "last_handled_reconcile_at": before.last_handled_reconcile_at
            if paused
            else identity.annotations.get(ANNOTATION_RECONCILE_AT, before.last_handled_reconcile_at),
        }
    )
    return Derived(status, conditions.events())


def _summarize(conditions: Conditions, world: World, steady: Steady, convergence: Convergence, findings: Findings) -> None:
    """Set Ready, Reconciling and Stalled (kstatus)."""
    problems, worst = findings.problems(), findings.worst()
    stalled = worst is not None and worst.decision is Decision.STOP
    lifecycle = world.spec.lifecycle
    text = _tell(problems)
    grave = _tell([(name, verdict) for name, verdict in problems if verdict.decision is Decision.STOP])
    if lifecycle is Lifecycle.PAUSED:
        waiting = f"{len(convergence.effects)} object(s) differ from the spec and stay so" if convergence.effects else "nothing differs"
        told = f"nothing is changed while lifecycle is Paused; {grave or waiting}; set lifecycle to Running"
        conditions.put("Ready", False, "Paused", told)
    elif lifecycle is Lifecycle.HIBERNATED:
        left = decide_stopped(world)
        kept = grave or "all data is kept; set lifecycle to Running to resume"
        told = f"stopping {left}" + (f"; {grave}" if grave else "") if left else f"all pods are stopped; {kept}"
        conditions.put("Ready", False, "Hibernated", told)
        problems = [(left, wait("Stopping", "its pods are stopping"))] if left else []
    elif worst is None:
        pairing = "; WorkerReady says where to see whether numbers are paired" if findings.workers() else ""
        conditions.put("Ready", True, "AllReady", f"release {world.spec.release.version} serves{pairing}")
    else:
        known = any(not verdict.unknown for _, verdict in problems)
        conditions.put("Ready", False if known else None, worst.reason if stalled else _reason(steady, findings), text)
    reconciling = bool(problems) and not stalled and lifecycle is not Lifecycle.PAUSED
    conditions.put("Reconciling", reconciling, "Progressing" if reconciling else "Settled", _tell(problems) if reconciling else "")
    conditions.put("Stalled", stalled, worst.reason if worst is not None and stalled else "NotStalled", text if stalled else "")


def _reason(steady: Steady, findings: Findings) -> str:
    """Return why an instance is not ready where waiting helps: a component does not serve, or all do and only a change is on its way."""
    serving = all(finding.available.ok for finding in findings.components if finding.component != names.MIGRATE)
    if steady.release.serving is None or not serving:
        return "ComponentsNotReady"
    release = steady.release.status
    return "Progressing" if steady.release.current and release.stable == release.desired else "RolloutInProgress"


def _tell(problems: Sequence[tuple[str, Verdict]]) -> str:
    """Return the gravest problems in a line each."""
    ranked = sorted(problems, key=lambda item: (item[1].decision is not Decision.STOP, item[1].unknown))
    told = [f"{name}: {verdict.reason}" + (f": {verdict.message}" if verdict.message else "") for name, verdict in ranked[:_TOLD]]
    more = ["and more, see status.components"] if len(ranked) > _TOLD else []
    return " | ".join([*told, *more])


def _judge_components(conditions: Conditions, world: World, findings: Findings) -> None:
    """Set the conditions of the components: whether each does its work, and if not, why."""
    for kind, component in _CONDITIONS.items():
        finding = findings.find(component)
        if finding is not None:
            conditions.judge(kind, finding.available)
        elif component == names.POSTGRES:
            conditions.judge("DatabaseReady", _external_database(world, findings))
    workers = [(finding.component, finding.available) for finding in findings.workers()]
    if workers:
        bad = [(name, verdict) for name, verdict in workers if not verdict.ok]
        worst = bad[0][1] if bad else OK
        message = _tell(bad) if bad else f"the workers of {len(workers)} number(s) run; {_PAIRING}"
        conditions.put("WorkerReady", True if not bad else None if worst.unknown else False, worst.reason, message)


def _external_database(world: World, findings: Findings) -> Verdict:
    """Judge a database that we do not run by who uses it: a ready app has reached it."""
    app, migration = findings.find(names.APP), findings.find(names.MIGRATE)
    if app is not None and app.workload is not None and app.available.ok:
        return OK
    if migration is not None and migration.serving.reason == "DatabaseUnreachable":
        return Verdict(Decision.WAIT, "Unreachable", migration.serving.message)
    return wait("NotObserved", "somebody else runs it; it is known to answer once app is ready", unknown=True)


def _judge_release(conditions: Conditions, world: World, steady: Steady, findings: Findings) -> None:
    version = world.spec.release.version
    if not steady.release.current:
        conditions.judge("ReleaseCurrent", steady.release.verdict)
    elif all(finding.serving.ok and finding.course.ok for finding in _movers(findings)):
        conditions.put("ReleaseCurrent", True, "Current", f"all components are of release {version}")
    else:
        conditions.put("ReleaseCurrent", False, "Progressing", f"components are moving to release {version}")


def _movers(findings: Findings) -> list[Finding]:
    """Return the findings of what runs the chatbot's own image."""
    return [finding for finding in findings.components if finding.component not in (names.POSTGRES, names.REDIS)]


def _release_serves(findings: Findings, steady: Steady) -> bool:
    """Return whether all components run the wanted release and do their work."""
    return steady.release.current and all(f.serving.ok and f.course.ok and f.available.ok for f in _movers(findings))


def _judge_operator(conditions: Conditions, world: World, convergence: Convergence) -> None:
    if not convergence.pending:
        conditions.put("OperatorCurrent", True, "Current")
        return
    version, holders = world.snapshot.operator.version, world.snapshot.restarting
    asked = world.snapshot.identity.annotations.get(ANNOTATION_APPLY_UPDATE) == version
    what = f"pod templates of operator {version} wait for {', '.join(convergence.pending)}, because applying them restarts pods; "
    if not asked:
        message = f"{what}annotate {ANNOTATION_APPLY_UPDATE}={version} to apply them"
    elif world.snapshot.restart_slots < 1 and holders:
        message = f"{what}{', '.join(holders[:_TOLD])} restarts first, and this goes on once it is ready"
    else:
        message = f"{what}they are applied one component after the other"
    conditions.put("OperatorCurrent", False, "PendingOperatorUpdate", message)


def _row(finding: Finding) -> ComponentStatus:
    health = finding.workload.health if finding.workload else None
    available, verdict = finding.available, finding.verdict if not finding.verdict.ok else finding.available
    return ComponentStatus(
        name=finding.component,
        ready="True" if available.ok else "Unknown" if available.unknown else "False",
        replicas="" if finding.component == names.MIGRATE else f"{health.ready_replicas if health else 0}/{finding.wanted}",
        image=finding.image,
        reason=verdict.reason,
        message=verdict.message[:_MAX_MESSAGE],
    )


def _endpoints(world: World) -> EndpointsStatus:
    base = f"http://{names.component_name(world.name, names.APP)}.{world.snapshot.identity.namespace}.svc:{APP_PORT}"
    brought = world.spec.secrets.admin_password
    admin = f"{brought.name}/{brought.key}" if brought else f"{names.admin_secret(world.name)}/{ADMIN_KEY}"
    return EndpointsStatus(api=base, admin_ui=f"{base}/ui/index.html", admin_password_secret=admin)
