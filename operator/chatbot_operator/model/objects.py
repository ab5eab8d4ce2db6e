"""Identity and observed state of child objects."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Manifest = Mapping[str, Any]
"""A Kubernetes object as canonical JSON: `500m` instead of 0.5, no timestamps, no empty maps."""


@dataclass(frozen=True, slots=True, order=True)
class ObjectKey:
    """Where an object lives. `namespace` is empty for cluster-scoped kinds."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def key_of(manifest: Manifest) -> ObjectKey:
    """Return the identity of a manifest."""
    meta = manifest["metadata"]
    return ObjectKey(manifest["kind"], meta.get("namespace", ""), meta["name"])


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a Job said with its last act (docs/runtime-contract.md, Job results). `data` holds the whole JSON object."""

    outcome: str
    reason: str
    message: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Health:
    """Readiness of one object, from Kubernetes alone. `ready` None means unknown, which is never healthy.

    `observed` is False while the controller of the kind has not yet seen the newest spec. `terminal` is True when
    waiting can't help (a Job that used up its retries).
    """

    ready: bool | None
    reason: str
    message: str = ""
    replicas: int = 0
    ready_replicas: int = 0
    observed: bool = True
    terminal: bool = False
    result: JobResult | None = None


@dataclass(frozen=True, slots=True)
class ChildState:
    """What the reflector keeps of a live object, under 1 KiB; the object itself is dropped.

    `fingerprint` hashes only the fields that our own managedFields entry owns, so drift in our fields shows
    and changes by others don't. `details` holds the few fields that decisions need beyond that (documented per kind
    in `kube/project.py`), for example a claim's phase and bound volume; `labels` only those that decisions read.
    """

    key: ObjectKey
    uid: str
    resource_version: str
    fingerprint: str
    instance: str
    instance_uid: str
    owner_uid: str
    deleting: bool
    health: Health
    labels: Mapping[str, str]
    details: Mapping[str, str]
