"""The instances as the watch last delivered them: one compact copy each, and whether a new version is a reason for a pass."""

import hashlib
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from chatbot_operator.api.v1alpha1.instance import Lifecycle
from chatbot_operator.constants import ANNOTATION_APPLY_UPDATE, ANNOTATION_RECONCILE_AT

REQUESTS: Final = (ANNOTATION_RECONCILE_AT, ANNOTATION_APPLY_UPDATE)
"""Annotations by which people ask for something; no other annotation is kept or wakes anybody."""

MAX_BURIED: Final = 4096


class InstanceKey(NamedTuple):
    """Names one instance; the key of the work queue."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Instance:
    """One version of an instance. `body` is deflated JSON with metadata (what passes need of it), spec and status."""

    uid: str
    resource_version: str
    body: bytes
    digest: bytes
    """Of everything whose change is a reason for a pass."""
    settled: bool
    """The instance was Ready at its generation and nobody asked for anything: nobody waits for its next pass."""
    update_requested: str
    """Operator version whose pod templates a person asked for."""
    update_applied: str
    """Operator version whose pod templates are applied."""
    ready: bool
    lifecycle: str
    """As the spec says; empty while it is being deleted. Only a Running one is restarted by new pod templates and ready again after."""

    def read(self) -> dict[str, Any]:
        """Return the parsed body, a fresh copy each time."""
        parsed: dict[str, Any] = orjson.loads(zlib.decompress(self.body))
        return parsed


class InstanceStore:
    """All instances by key. What is told late never replaces what is newer, nor brings back what was deleted; a read may (`believe`)."""

    def __init__(self) -> None:
        self._instances: dict[InstanceKey, Instance] = {}
        self._buried: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._instances)

    def __iter__(self) -> Iterator[InstanceKey]:
        return iter(list(self._instances))

    def get(self, key: InstanceKey) -> Instance | None:
        """Return the newest version known."""
        return self._instances.get(key)

    def put(self, live: Mapping[str, Any]) -> bool:
        """Take in a version from the watch, from a list or from the answer to our own write.

        Returns:
            Whether it differs from the version before in what matters to a pass: generation, deletion, finalizers, requests of
            people, or status. After our own status write the answer is taken in first, so its echo from the watch makes no pass.
        """
        new = _compact(live)
        key = key_of_instance(live)
        if new.uid in self._buried:
            return False
        old = self._instances.get(key)
        if old is not None and version_number(old.resource_version) >= version_number(new.resource_version):
            return False
        self._instances[key] = new
        return old is None or old.uid != new.uid or old.digest != new.digest

    def believe(self, live: Mapping[str, Any], held: Instance | None) -> bool:
        """Take in the answer to a read as the truth, even if it is older: then the server's history was replaced (a restored etcd).

        Args:
            live: The answer.
            held: What was held when the read began. If something was told since, the answer may be older than that: versions decide.

        Returns:
            As `put`.
        """
        key = key_of_instance(live)
        if self._instances.get(key) is not held:
            return self.put(live)
        self._buried.pop(live["metadata"]["uid"], None)
        self._instances.pop(key, None)
        self.put(live)
        return held is None or held.uid != self._instances[key].uid or held.digest != self._instances[key].digest

    def remove(self, key: InstanceKey, uid: str) -> bool:
        """Take out a deleted instance; return whether it was there. One that already has a successor stays."""
        self._bury(uid)
        old = self._instances.get(key)
        if old is None or old.uid != uid:
            return False
        del self._instances[key]
        return True

    def _bury(self, uid: str) -> None:
        """Remember the uid, so that a late answer to a write does not bring the instance back. Uids are never reused."""
        self._buried[uid] = None
        while len(self._buried) > MAX_BURIED:
            del self._buried[next(iter(self._buried))]


def key_of_instance(live: Mapping[str, Any]) -> InstanceKey:
    """Return the key of a live instance."""
    metadata = live["metadata"]
    return InstanceKey(metadata["namespace"], metadata["name"])


def version_number(text: str) -> int:
    """Return a resourceVersion as a number: versions of one resource may be compared (KEP-5504)."""
    return int(text) if text.isdigit() else 0


def _compact(live: Mapping[str, Any]) -> Instance:
    metadata, spec, status = live["metadata"], live.get("spec") or {}, live.get("status") or {}
    annotations = metadata.get("annotations") or {}
    requests = {name: annotations[name] for name in REQUESTS if name in annotations}
    kept = {
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "resourceVersion": metadata["resourceVersion"],
        "generation": metadata.get("generation", 0),
        "finalizers": metadata.get("finalizers") or [],
        "annotations": requests,
        "deletionTimestamp": metadata.get("deletionTimestamp"),
    }
    body = zlib.compress(orjson.dumps({"metadata": kept, "spec": spec, "status": status}), level=1)
    matters = {**kept, "resourceVersion": "", "status": status}
    digest = hashlib.blake2b(orjson.dumps(matters, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()
    ready = _is_ready(status, kept["generation"])
    handled = requests.get(ANNOTATION_RECONCILE_AT) in (None, status.get("lastHandledReconcileAt"))
    return Instance(
        uid=kept["uid"],
        resource_version=kept["resourceVersion"],
        body=body,
        digest=digest,
        settled=ready and handled and kept["deletionTimestamp"] is None,
        update_requested=requests.get(ANNOTATION_APPLY_UPDATE, ""),
        update_applied=status.get("operatorVersion") or "",
        ready=ready,
        lifecycle=spec.get("lifecycle", Lifecycle.RUNNING) if kept["deletionTimestamp"] is None else "",
    )


def _is_ready(status: Mapping[str, Any], generation: int) -> bool:
    if status.get("observedGeneration") != generation:
        return False
    return any(item.get("type") == "Ready" and item.get("status") == "True" for item in status.get("conditions") or ())
