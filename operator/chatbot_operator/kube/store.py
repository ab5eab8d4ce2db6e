"""Children in memory, grouped by instance; says which instance changed when a change matters."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from chatbot_operator.clock import Clock
from chatbot_operator.errors import ResultUnreadable
from chatbot_operator.kube.project import Projector, key_of_live
from chatbot_operator.kube.results import observe_pod_result
from chatbot_operator.model.objects import ChildState, Health, JobResult, ObjectKey

Live = Mapping[str, Any]
OnChange = Callable[[str, str], None]
"""Called with (namespace, instance name)."""
OnGone = Callable[[ObjectKey], None]
"""Called for a child that is gone."""

TOMBSTONE_SECONDS: Final = 60.0
_PENDING: Final = Health(ready=None, reason="ResultPending", message="the pod's result was not seen yet")


class Store:
    """All children by instance. Older versions of an object never replace newer ones."""

    def __init__(self, clock: Clock, on_change: OnChange, on_gone: OnGone = lambda _: None) -> None:
        self._clock = clock
        self._on_change = on_change
        self._on_gone = on_gone
        self._projector = Projector()
        self._children: dict[ObjectKey, ChildState] = {}
        self._instances: dict[tuple[str, str], list[ObjectKey]] = {}
        """(namespace, instance) -> keys; lists, because a set or dict per instance would cost more than half of what it indexes."""
        self._tombstones: dict[ObjectKey, tuple[int, float]] = {}
        self._pending: dict[ObjectKey, float] = {}
        """Ended Jobs whose result was not seen -> when they were seen ended."""

    def children(self, namespace: str, instance: str) -> dict[ObjectKey, ChildState]:
        """Return a copy of the children of one instance."""
        return {key: self._children[key] for key in self._instances.get((namespace, instance), ())}

    def holds(self, key: ObjectKey) -> bool:
        """Return whether the object is a child of any instance."""
        return key in self._children

    def size(self) -> int:
        """Return the number of children of all instances."""
        return len(self._children)

    def put(self, live: Live, asof: float = -1) -> None:
        """Take in a live object from a list, a watch or the answer to a write.

        Args:
            live: The object.
            asof: From a list: its resourceVersion as a number. The list wins over whatever is not newer than that, even if the object in
                it is older: then the server's history was replaced.
        """
        child = self._projector.project(live)
        key = child.key
        if key.kind == "Pod":
            child = _with_pod_result(child, live)
        version = version_number(child.resource_version)
        if self._is_buried(key, version, asof):
            return
        old = self._children.get(key)
        if old is not None and asof < version_number(old.resource_version) >= version:
            return
        if old is not None and old.instance != child.instance:
            self._drop(old)
            old = None
        if key.kind == "Job":
            child = self._join(child, old)
        self._set(child, old)
        if key.kind == "Pod":
            self._rejoin(child)

    def remove(self, live: Live) -> None:
        """Take out an object that was deleted; the event carries the version of the deletion."""
        key = key_of_live(live)
        version = version_number(live["metadata"]["resourceVersion"])
        self._bury(key, version)
        old = self._children.get(key)
        if old is not None and version_number(old.resource_version) <= version:
            self._drop(old)

    def sweep(self, kind: str, namespace: str, seen: set[ObjectKey], asof: float) -> None:
        """Take out what a finished list did not contain.

        Args:
            kind: Kind of the list.
            namespace: Namespace of the list, empty for all.
            seen: Keys that it contained.
            asof: Its resourceVersion as a number; objects newer than that stay. Infinite when the server's history was replaced.
        """
        if asof == math.inf:  # graves of a history that the server no longer has
            self._tombstones = {key: grave for key, grave in self._tombstones.items() if not _in(key, kind, namespace)}
        for key, old in list(self._children.items()):
            if _in(key, kind, namespace) and key not in seen and version_number(old.resource_version) <= asof:
                self._drop(old)

    def pods_current(self, namespace: str, since: float) -> None:
        """Learn that the pods of a namespace (empty: of all) are as new as `since`.

        A pod's end is written before its Job's, so a Job that was seen to end before that and still has no result has lost it.
        """
        for key, ended in list(self._pending.items()):
            if (not namespace or key.namespace == namespace) and ended <= since:
                self._settle(key)

    def _settle(self, key: ObjectKey) -> None:
        del self._pending[key]
        old = self._children.get(key)
        if old is not None and old.details.get("result") == "pending":
            self._set(_judged(old, "missing", _unreadable(old, "is missing")), old)

    def _set(self, child: ChildState, old: ChildState | None) -> None:
        if old is None:
            self._instances.setdefault((child.key.namespace, child.instance), []).append(child.key)
        self._children[child.key] = child
        if old is None or replace(child, resource_version=old.resource_version) != old:
            self._on_change(child.key.namespace, child.instance)

    def _drop(self, old: ChildState) -> None:
        where = (old.key.namespace, old.instance)
        del self._children[old.key]
        self._instances[where].remove(old.key)
        if not self._instances[where]:
            del self._instances[where]
        self._pending.pop(old.key, None)
        self._on_gone(old.key)
        self._on_change(*where)

    def _is_buried(self, key: ObjectKey, version: int, asof: float) -> bool:
        """Return whether this is late news of an object that was deleted since. News come late by seconds, not by minutes."""
        buried = self._tombstones.get(key)
        if buried is None:
            return False
        deleted, at = buried
        if asof >= deleted or at + TOMBSTONE_SECONDS <= self._clock.monotonic():
            del self._tombstones[key]
            return False
        return version <= deleted

    def _bury(self, key: ObjectKey, version: int) -> None:
        now = self._clock.monotonic()
        if len(self._tombstones) > 4096:
            self._tombstones = {k: v for k, v in self._tombstones.items() if v[1] + TOMBSTONE_SECONDS > now}
        self._tombstones[key] = (version, now)

    def _rejoin(self, pod: ChildState) -> None:
        """Hand a pod's result on to its Job."""
        kind, _, name = pod.details.get("owner", "").partition("/")
        if kind != "Job" or "result" not in pod.details:
            return
        old = self._children.get(ObjectKey("Job", pod.key.namespace, name))
        if old is not None and old.details.get("result") in ("pending", "missing"):
            self._set(self._join(old, old), old)

    def _join(self, job: ChildState, old: ChildState | None) -> ChildState:
        """Return an ended Job with its result, which outlives the pod that reported it."""
        if job.health.terminal and "result" not in job.details:
            job = replace(job, details={**job.details, "ended": job.health.reason})
        elif "result" not in job.details:
            return job
        if old is not None and old.uid == job.uid and old.details.get("result") in ("read", "unreadable"):
            return _judged(job, old.details["result"], old.health)
        others = self.children(job.key.namespace, job.instance).values()
        reports = [pod for pod in others if pod.owner_uid == job.uid and "result" in pod.details]
        if not reports:
            if old is not None and old.uid == job.uid and old.details.get("result") == "missing":
                return _judged(job, "missing", old.health)
            self._pending.setdefault(job.key, self._clock.monotonic())
            return _judged(job, "pending", _PENDING)
        self._pending.pop(job.key, None)
        result = max(reports, key=lambda pod: pod.details["finishedAt"]).health.result
        if result is None:
            return _judged(job, "unreadable", _unreadable(job, "is not by contract"))
        return _judged(job, "read", _health_of(result))


def _in(key: ObjectKey, kind: str, namespace: str) -> bool:
    return key.kind == kind and (not namespace or key.namespace == namespace)


def _with_pod_result(pod: ChildState, live: Live) -> ChildState:
    found = observe_pod_result(live)
    if found is None:
        return pod
    details = {**pod.details, "result": "read" if found.result else "unreadable", "finishedAt": found.finished_at}
    return replace(pod, details=details, health=replace(pod.health, result=found.result))


def _judged(job: ChildState, result: str, health: Health) -> ChildState:
    return replace(job, details={**job.details, "result": result}, health=health)


def _health_of(result: JobResult) -> Health:
    return Health(ready=result.outcome == "Succeeded", reason=result.reason, message=result.message, terminal=True, result=result)


def _unreadable(job: ChildState, why: str) -> Health:
    message = f"the Job ended ({job.details['ended']}) but its result {why}"
    return Health(ready=False, reason=ResultUnreadable.reason, message=message, terminal=True)


def version_number(text: str) -> int:
    """Return a resourceVersion as a number: since Kubernetes 1.35 versions of one resource type may be compared."""
    return int(text) if text.isdigit() else 0
