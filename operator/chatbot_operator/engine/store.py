"""Objects of our own kinds as the watch last delivered them: one compact copy each, and whether a new version is a reason for a pass."""

import hashlib
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, TypeVar

import orjson

from chatbot_operator.constants import ANNOTATION_APPLY_UPDATE, ANNOTATION_RECONCILE_AT

REQUESTS: Final = (ANNOTATION_RECONCILE_AT, ANNOTATION_APPLY_UPDATE)
"""Annotations by which people ask for something; no other annotation is kept or wakes anybody."""

MAX_BURIED: Final = 4096

Marks = TypeVar("Marks")
"""The few facts of a kind that others than its own passes ask for, without parsing a body."""


class NamespacedName(NamedTuple):
    """Names one object of a kind; the key of its work queue."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Summary(NamedTuple, Generic[Marks]):
    """What a kind tells of one version. `settled`: nobody waits for its next pass."""

    settled: bool
    marks: Marks


@dataclass(frozen=True, slots=True)
class Tracked(Generic[Marks]):
    """One version of an object. `body` is deflated JSON with metadata (what passes need of it), spec and status."""

    uid: str
    resource_version: str
    body: bytes
    digest: bytes
    """Of everything whose change is a reason for a pass."""
    settled: bool
    marks: Marks

    def read(self) -> dict[str, Any]:
        """Return the parsed body, a fresh copy each time."""
        parsed: dict[str, Any] = orjson.loads(zlib.decompress(self.body))
        return parsed


class ObjectStore(Generic[Marks]):
    """All objects of a kind. What is told late never replaces what is newer, nor brings back what was deleted; a read may (`believe`)."""

    def __init__(self, summarize: Callable[[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]], Summary[Marks]]) -> None:
        """Prepare. `summarize` is given metadata, spec and status of each version."""
        self._summarize = summarize
        self._objects: dict[NamespacedName, Tracked[Marks]] = {}
        self._buried: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[NamespacedName]:
        return iter(list(self._objects))

    def get(self, key: NamespacedName) -> Tracked[Marks] | None:
        """Return the newest version known."""
        return self._objects.get(key)

    def put(self, live: Mapping[str, Any]) -> bool:
        """Take in a version from the watch, from a list or from the answer to our own write.

        Returns:
            Whether it differs from the version before in what matters to a pass: generation, deletion, finalizers, requests of
            people, or status. After our own status write the answer is taken in first, so its echo from the watch makes no pass.
        """
        new = self._compact(live)
        key = name_of(live)
        if new.uid in self._buried:
            return False
        old = self._objects.get(key)
        if old is not None and version_number(old.resource_version) >= version_number(new.resource_version):
            return False
        self._objects[key] = new
        self.changed(key, old, new)
        return old is None or old.uid != new.uid or old.digest != new.digest

    def believe(self, live: Mapping[str, Any], held: Tracked[Marks] | None) -> bool:
        """Take in the answer to a read as the truth, even if it is older: then the server's history was replaced (a restored etcd).

        Args:
            live: The answer.
            held: What was held when the read began. If something was told since, the answer may be older than that: versions decide.

        Returns:
            As `put`.
        """
        key = name_of(live)
        if self._objects.get(key) is not held:
            return self.put(live)
        self._buried.pop(live["metadata"]["uid"], None)
        old = self._objects.pop(key, None)
        self.changed(key, old, None)
        self.put(live)
        return held is None or held.uid != self._objects[key].uid or held.digest != self._objects[key].digest

    def remove(self, key: NamespacedName, uid: str) -> bool:
        """Take out a deleted object; return whether it was there. One that already has a successor stays."""
        self._bury(uid)
        old = self._objects.get(key)
        if old is None or old.uid != uid:
            return False
        del self._objects[key]
        self.changed(key, old, None)
        return True

    def changed(self, key: NamespacedName, old: Tracked[Marks] | None, new: Tracked[Marks] | None) -> None:
        """Learn that a version was taken in or an object taken out; for what a kind keeps beside its objects."""

    def _bury(self, uid: str) -> None:
        """Remember the uid, so that a late answer to a write does not bring the object back. Uids are never reused."""
        self._buried[uid] = None
        while len(self._buried) > MAX_BURIED:
            del self._buried[next(iter(self._buried))]

    def _compact(self, live: Mapping[str, Any]) -> Tracked[Marks]:
        metadata, spec, status = live["metadata"], live.get("spec") or {}, live.get("status") or {}
        annotations = metadata.get("annotations") or {}
        kept = {
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "generation": metadata.get("generation", 0),
            "finalizers": metadata.get("finalizers") or [],
            "annotations": {name: annotations[name] for name in REQUESTS if name in annotations},
            "creationTimestamp": metadata.get("creationTimestamp", ""),
            "deletionTimestamp": metadata.get("deletionTimestamp"),
        }
        matters = {**kept, "resourceVersion": "", "status": status}
        summary = self._summarize(kept, spec, status)
        return Tracked(
            uid=kept["uid"],
            resource_version=kept["resourceVersion"],
            body=zlib.compress(orjson.dumps({"metadata": kept, "spec": spec, "status": status}), level=1),
            digest=hashlib.blake2b(orjson.dumps(matters, option=orjson.OPT_SORT_KEYS), digest_size=16).digest(),
            settled=summary.settled,
            marks=summary.marks,
        )


def name_of(live: Mapping[str, Any]) -> NamespacedName:
    """Return the name of a live object."""
    metadata = live["metadata"]
    return NamespacedName(metadata["namespace"], metadata["name"])


def version_number(text: str) -> int:
    """Return a resourceVersion as a number: versions of one resource may be compared (KEP-5504)."""
    return int(text) if text.isdigit() else 0
