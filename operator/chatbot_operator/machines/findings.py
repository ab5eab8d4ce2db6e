"""What is wrong with an instance right now, component by component: the one list from which conditions and rows of the status follow."""

from collections.abc import Mapping
from dataclasses import dataclass

from chatbot_operator.api.v1alpha1.instance import Mode
from chatbot_operator.api.v1alpha1.instance_status import RetryStatus
from chatbot_operator.desired import names
from chatbot_operator.desired.plan import FOUNDATION
from chatbot_operator.gates.volume import REASON
from chatbot_operator.machines.conditions import worst
from chatbot_operator.machines.convergence import Convergence
from chatbot_operator.machines.release import WAITS_FOR_DATABASE
from chatbot_operator.machines.retry import judge_refusals
from chatbot_operator.machines.steady import Steady
from chatbot_operator.machines.world import World
from chatbot_operator.model.objects import ChildState
from chatbot_operator.model.targets import ComponentTarget
from chatbot_operator.model.verdict import OK, Decision, Verdict, wait

_ON_ITS_WAY = frozenset({"SecretPending", "Applying", "NotCreated", "NotObserved", "PodsNotReady", "RollingOut"})


@dataclass(frozen=True, slots=True)
class Finding:
    """One component: whether it serves, whether it is as the spec wants it, and what it is.

    `serving` is the verdict on the workload alone; `course` says why the component is held, waits or is being changed.
    """

    component: str
    serving: Verdict
    course: Verdict = OK
    workload: ChildState | None = None
    image: str = ""
    wanted: int = 0
    """Pods that it shall have."""

    @property
    def verdict(self) -> Verdict:
        """Return what explains the component best: why it is held, else what its workload says, else what it waits for."""
        if self.course.decision is Decision.STOP or (self.workload is None and not self.course.ok):
            found = self.course
        else:
            found = self.serving if not self.serving.ok else self.course
        return self._on_its_way() if found.reason in _ON_ITS_WAY else found

    @property
    def available(self) -> Verdict:
        """Return whether the component does its work now, be it with pods of an older template. Lost data counts at once."""
        if self.course.reason == REASON and self.component == names.POSTGRES:
            return self.course
        health = self.workload.health if self.workload is not None else None
        if health is not None and health.reason == "ScaledToZero":
            return wait("Hibernated", "its pods are stopped")
        if self.serving.ok:
            return OK
        if health is not None and self.serving.reason != "NodeUnreachable" and 0 < health.replicas <= health.ready_replicas:
            return Verdict(Decision.OK, "RollingOut", f"enough pods serve; of the new ones: {self.verdict.message}")
        return self.verdict

    def _on_its_way(self) -> Verdict:
        """Return one verdict for the steps that every start and every change goes through: each would cost a write of the status."""
        if self.workload is not None and self.workload.health.ready_replicas:
            return wait("RollingOut", "its pods are being added or replaced")
        return wait("PodsNotReady", "its pods are not ready yet")


@dataclass(frozen=True, slots=True)
class Findings:
    """All of an instance. `others` are faults that belong to no component, by the name of what they are about."""

    components: tuple[Finding, ...]
    others: Mapping[str, Verdict]

    def find(self, component: str) -> Finding | None:
        """Return the finding of a component."""
        return next((finding for finding in self.components if finding.component == component), None)

    def workers(self) -> tuple[Finding, ...]:
        """Return the findings of all WhatsApp Web numbers."""
        return tuple(finding for finding in self.components if finding.component.startswith(f"{names.WORKER_WEB}-"))

    def problems(self) -> list[tuple[str, Verdict]]:
        """Return what is not as it should be, in dependency order."""
        found = [(finding.component, finding.verdict) for finding in self.components if not finding.verdict.ok]
        return [*found, *((name, verdict) for name, verdict in self.others.items() if not verdict.ok)]

    def worst(self) -> Verdict | None:
        """Return the verdict that matters most, or None."""
        return worst(verdict for _, verdict in self.problems())


def gather_findings(world: World, steady: Steady, convergence: Convergence, retry: RetryStatus | None) -> Findings:
    """Return what is wrong, from verdicts that were made."""
    refused = judge_refusals(retry, world.snapshot.identity.namespace)
    found: list[Finding] = []
    if world.spec.database.mode is Mode.MANAGED:
        course = _first(steady.holds[names.POSTGRES], *_unsettled(convergence, names.POSTGRES_VOLUME, names.BOOTSTRAP, names.POSTGRES))
        found.append(_finding(world, names.POSTGRES, course, world.snapshot.operator.postgres_image, steady.targets.postgres))
    if world.spec.cache.mode is Mode.MANAGED:
        course = _first(steady.holds[names.REDIS], *_unsettled(convergence, names.REDIS))
        found.append(_finding(world, names.REDIS, course, world.snapshot.operator.redis_image, steady.targets.redis))
    release = steady.release.serving
    found.append(Finding(names.MIGRATE, _migration(steady, convergence), image=release.app_image if release else ""))
    images = {names.APP: release.app_image, names.SCHEDULER: release.scheduler_image} if release else {}
    for component, target in ((names.APP, steady.targets.app), (names.SCHEDULER, steady.targets.scheduler)):
        course = _first(steady.holds[component], *_unsettled(convergence, component))
        found.append(_finding(world, component, course, images.get(component, ""), target))
    found += _workers(world, steady, convergence)
    others = {
        **refused,
        "network and accounts": convergence.unsettled.get(FOUNDATION, OK),
        "backups": convergence.unsettled.get(names.BACKUP, OK),
        "secrets": _lost(steady),
        "removal": _leaving(convergence),
    }
    return Findings(tuple(found), others)


def _workers(world: World, steady: Steady, convergence: Convergence) -> list[Finding]:
    target, found = steady.targets.worker_web, []
    for number in world.spec.worker_web.numbers:
        stage = names.web_component(number.name)
        course = _first(steady.holds[names.WORKER_WEB], *_unsettled(convergence, stage))
        image = steady.release.serving.worker_web_image if steady.release.serving else ""
        found.append(
            Finding(
                component=stage,
                serving=world.judge(names.WORKER_WEB, number.name),
                course=course,
                workload=world.workload(names.WORKER_WEB, number.name),
                image=image,
                wanted=target.replicas or 0,
            )
        )
    return found


def _finding(world: World, component: str, course: Verdict, image: str, target: ComponentTarget) -> Finding:
    workload, scaling = world.workload(component), world.spec.app.autoscaling
    wanted = target.replicas
    if wanted is None:
        wanted = workload.health.replicas if workload else scaling.min_replicas if scaling else 0
    return Finding(component, world.judge(component), course, workload, image, wanted)


def _unsettled(convergence: Convergence, *stages: str) -> list[Verdict]:
    return [convergence.unsettled.get(stage, OK) for stage in stages]


def _first(*verdicts: Verdict) -> Verdict:
    return next((verdict for verdict in verdicts if not verdict.ok), OK)


def _migration(steady: Steady, convergence: Convergence) -> Verdict:
    """Return the verdict on the migration; its Job waits for the server, which the machine leaves to the gates."""
    waiting = convergence.unsettled.get(names.MIGRATE)
    if waiting is not None and waiting.reason != "Applying" and steady.release.verdict.reason == "JobRunning":
        return WAITS_FOR_DATABASE
    revision = steady.release.status.schema_revision
    return (
        Verdict(Decision.OK, "Migrated", f"schema revision {revision}") if steady.release.current and revision else steady.release.verdict
    )


def _lost(steady: Steady) -> Verdict:
    """Return the verdict on a lost Secret, also where no component is held by it."""
    return next(iter(steady.secrets.lost.values()), OK)


def _leaving(convergence: Convergence) -> Verdict:
    """Return the verdict on what is no longer wanted. Only one is named, so that the others may go without a write of the status."""
    if not convergence.leaving:
        return OK
    first = convergence.leaving[0]
    return wait("Pruning", f"what is no longer wanted is being removed, for example {first.kind} {first.name}")
