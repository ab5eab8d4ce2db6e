"""What a pass sees, asked in the words of decisions: this workload, those pods, is it ours."""

from dataclasses import dataclass, replace

from chatbot_operator.api.v1alpha1.instance import ChatbotInstanceSpec, Lifecycle
from chatbot_operator.api.v1alpha1.instance_status import JobStatus
from chatbot_operator.constants import LABEL_COMPONENT, LABEL_NUMBER
from chatbot_operator.desired import names
from chatbot_operator.gates.readiness import is_blocked, judge_workload
from chatbot_operator.model.objects import ChildState, ObjectKey
from chatbot_operator.model.snapshot import Snapshot
from chatbot_operator.model.verdict import Verdict


@dataclass(frozen=True, slots=True)
class World:
    """A snapshot whose spec is valid."""

    snapshot: Snapshot
    spec: ChatbotInstanceSpec

    @property
    def name(self) -> str:
        """Return the instance's name."""
        return self.snapshot.identity.name

    @property
    def uid(self) -> str:
        """Return the instance's uid."""
        return self.snapshot.identity.uid

    @property
    def requested(self) -> bool:
        """Return whether a person's request is met in this pass. While Paused it waits: nothing would be done for it."""
        return self.snapshot.requested and self.spec.lifecycle is not Lifecycle.PAUSED

    def child(self, kind: str, name: str) -> ChildState | None:
        """Return a child by kind and name."""
        return self.snapshot.children.get(ObjectKey(kind, self.snapshot.identity.namespace, name))

    def pods(self, component: str, number: str = "") -> tuple[ChildState, ...]:
        """Return the pods of a component, or of one WhatsApp Web number."""
        return tuple(
            child
            for key, child in self.snapshot.children.items()
            if key.kind == "Pod" and child.labels.get(LABEL_COMPONENT) == component and child.labels.get(LABEL_NUMBER, "") == number
        )

    def job(self, name: str) -> JobStatus | None:
        """Return the recorded state of a Job."""
        return next((job for job in self.snapshot.status.jobs if job.name == name), None)

    def under_way(self, name: str, key: str, child: ChildState | None) -> bool:
        """Return whether an attempt of a Job exists whose end is not recorded yet: it may end, also while nothing new may start."""
        state = self.job(name)
        return child is not None and not (state is not None and state.key == key and state.outcome)

    def workload(self, component: str, number: str = "") -> ChildState | None:
        """Return the Deployment or StatefulSet of a component."""
        if component in (names.APP, names.SCHEDULER):
            return self.child("Deployment", names.component_name(self.name, component))
        return self.child("StatefulSet", names.web_name(self.name, number) if number else names.component_name(self.name, component))

    def judge(self, component: str, number: str = "") -> Verdict:
        """Return whether the workload of a component serves."""
        return self.name_claims(judge_workload(self.workload(component, number), self.pods(component, number)), component, number)

    def name_claims(self, verdict: Verdict, component: str, number: str = "") -> Verdict:
        """Return a verdict on pods that can't be placed with the claims that have no volume, which the scheduler does not name."""
        if verdict.reason != "NotScheduled":
            return verdict
        told = [
            f"claim {key.name} has no volume ({_told_class(child.details.get('storageClass', ''))})"
            for key, child in sorted(self.snapshot.children.items())
            if key.kind == "PersistentVolumeClaim"
            and child.labels.get(LABEL_COMPONENT) == component
            and child.labels.get(LABEL_NUMBER, "") == number
            and child.details.get("phase") != "Bound"
        ]
        return replace(verdict, message="; ".join([*told, verdict.message]))

    def is_blocked(self, job: ChildState) -> bool:
        """Return whether a Job can't begin."""
        return is_blocked(job, self.pods(job.labels.get(LABEL_COMPONENT, "")))

    def is_working(self, job: ChildState) -> bool:
        """Return whether a Job has not ended and may be at work; what it does is never cut short."""
        return not job.health.terminal and job.health.reason != "ResultPending" and not self.is_blocked(job)

    def jobs_working(self, component: str = "") -> tuple[str, ...]:
        """Return the names of Jobs of this instance, or of one component, that are at work."""
        return tuple(
            key.name
            for key, child in sorted(self.snapshot.children.items())
            if key.kind == "Job"
            and child.instance_uid == self.uid
            and component in ("", child.labels.get(LABEL_COMPONENT))
            and self.is_working(child)
        )


def _told_class(name: str) -> str:
    return f"StorageClass {name}" if name else "no StorageClass: the cluster has no default"
