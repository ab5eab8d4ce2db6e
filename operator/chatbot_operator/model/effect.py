"""Effects: what a pass wants done to the world. Each has a deterministic name and is safe to do twice."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from chatbot_operator.model.objects import Manifest, ObjectKey
from chatbot_operator.model.plan import GeneratedSecret


@dataclass(frozen=True, slots=True)
class Apply:
    """Server-side apply of one manifest.

    `uid` is that of the live object, which carries our instance label and uid: it is the precondition, and our fields are forced. An empty
    `uid` means create: an object that exists by then is never taken (`FieldConflict`), unless it turns out to be ours.
    """

    manifest: Manifest
    fingerprint: str
    uid: str = ""


@dataclass(frozen=True, slots=True)
class CreateSecret:
    """Create a Secret with random values, once; an existing one is kept as it is."""

    request: GeneratedSecret


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete one object, guarded by its uid."""

    key: ObjectKey
    uid: str


class EventType(StrEnum):
    """Severity of an Event, as Kubernetes knows it."""

    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True, slots=True)
class Emit:
    """An Event on the instance; the recorder drops repeats of the same (reason, message)."""

    type: EventType
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class SetFinalizer:
    """Add or remove our finalizer."""

    present: bool


@dataclass(frozen=True, slots=True)
class PatchMetadata:
    """Set labels or annotations of an object that outlives us; None removes. Guarded by uid."""

    key: ObjectKey
    uid: str
    annotations: Mapping[str, str | None]
    labels: Mapping[str, str | None]


Effect = Apply | CreateSecret | Delete | Emit | SetFinalizer | PatchMetadata
