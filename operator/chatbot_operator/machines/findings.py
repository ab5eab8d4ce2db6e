"""What is wrong with an instance right now, component by component: the one list from which conditions and rows of the status follow."""

from collections.abc import Mapping
from dataclasses import dataclass

from chatbot_operator.api.v1alpha1.instance import Mode, RetryStatus
from chatbot_operator.desired import names
from chatbot_operator.desired.plan import FOUNDATION
from chatbot_operator.gates.volume import REASON
from chatbot_operator.machines.conditions import worst
from chatbot_operator.machines.convergence import Convergence
from chatbot_operator.machines.steady import Steady
from chatbot_operator.machines.world import World
from chatbot_operator.model.objects import ChildState
from chatbot_operator.model.verdict import OK, Decision, Verdict, stop, wait

_ON_ITS_WAY = frozenset({"Applying", "NotCreated", "NotObserved", "PodsNotReady", "RollingOut"})
_NEEDS_PERSON = frozenset({"QuotaExceeded", "Forbidden"})
"""Refusals that waiting does not end, although the same request may succeed later."""


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
    refused = _refusals(world, retry)
    found: list[Finding] = []
    if world.spec.database.mode is Mode.MANAGED:
        course = _first(steady.holds[names.POSTGRES], *_unsettled(convergence, names.POSTGRES_VOLUME, names.BOOTSTRAP, names.POSTGRES))
        found.append(_finding(world, names.POSTGRES, course, world.snapshot.operator.postgres_image))
    if world.spec.cache.mode is Mode.MANAGED:
        course = _first(steady.holds[names.REDIS], *_unsettled(convergence, names.REDIS))
        found.append(_finding(world, names.REDIS, course, world.snapshot.operator.redis_image))
    release = steady.release.serving
    found.append(Finding(names.MIGRATE, _migration(steady, convergence), image=release.app_image if release else ""))
    for component, image in ((names.APP, release and release.app_image), (names.SCHEDULER, release and release.scheduler_image)):
        course = _first(steady.holds[component], *_unsettled(convergence, component))
        found.append(_finding(world, component, course, image or ""))
    for number in world.spec.worker_web.numbers:
        stage = names.web_component(number.name)
        course = _first(steady.holds[names.WORKER_WEB], *_unsettled(convergence, stage))
        workload = world.workload(names.WORKER_WEB, number.name)
        serving = world.judge(names.WORKER_WEB, number.name)
        found.append(Finding(stage, serving, course, workload, release.worker_web_image if release else ""))
    others = {**refused, "network and accounts": convergence.unsettled.get(FOUNDATION, OK), "secrets": _secrets(steady)}
    return Findings(tuple(found), others)


def _finding(world: World, component: str, course: Verdict, image: str) -> Finding:
    return Finding(component, world.judge(component), course, world.workload(component), image)


def _unsettled(convergence: Convergence, *stages: str) -> list[Verdict]:
    return [convergence.unsettled.get(stage, OK) for stage in stages]


def _first(*verdicts: Verdict) -> Verdict:
    return next((verdict for verdict in verdicts if not verdict.ok), OK)


def _migration(steady: Steady, convergence: Convergence) -> Verdict:
    verdict = steady.release.verdict
    waiting = convergence.unsettled.get(names.MIGRATE)
    return waiting if waiting is not None and verdict.reason == "JobRunning" and waiting.reason != "Applying" else verdict


def _secrets(steady: Steady) -> Verdict:
    """Return the verdict on generated Secrets that no component's hold tells of."""
    if steady.secrets.lost:
        return next(iter(steady.secrets.lost.values()))
    return OK if steady.secrets.complete else wait("SecretPending", "Secrets are being generated")


def _refusals(world: World, retry: RetryStatus | None) -> dict[str, Verdict]:
    """Return the verdicts on refused objects, by object."""
    if retry is None:
        return {}
    namespace = f"{world.snapshot.identity.namespace}/"
    found = {}
    for failure in retry.failures:
        text = f"{failure.message}; next try at {retry.next_time}"
        judge = stop if failure.stuck or failure.reason in _NEEDS_PERSON else wait
        found[failure.object.replace(namespace, "")] = judge(failure.reason, text)
    return found
