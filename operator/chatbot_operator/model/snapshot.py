"""Everything one pass knows, gathered before anything is decided."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from chatbot_operator.api.v1alpha1.instance import ChatbotInstanceSpec
from chatbot_operator.api.v1alpha1.instance_status import ChatbotInstanceStatus
from chatbot_operator.constants import ANNOTATION_RECONCILE_AT
from chatbot_operator.model.objects import ChildState, ObjectKey


@dataclass(frozen=True, slots=True)
class Identity:
    """Which object a pass is about."""

    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: str
    annotations: Mapping[str, str] = field(default_factory=dict)
    finalizers: tuple[str, ...] = ()
    deleting: bool = False
    kind: str = "ChatbotInstance"


class Seen(Protocol):
    """What every snapshot has, whatever its kind."""

    @property
    def identity(self) -> Identity:
        """Which object it is of."""

    @property
    def namespace_terminating(self) -> bool | None:
        """Whether its namespace is terminating; None while unknown."""


@dataclass(frozen=True, slots=True)
class OperatorFacts:
    """What this operator process is configured with."""

    version: str
    postgres_image: str
    redis_image: str


@dataclass(frozen=True, slots=True)
class SecretFacts:
    """What is known of a Secret: which keys it has and a keyed hash of each value; never a value."""

    name: str
    keys: Mapping[str, str]
    """Key -> keyed hash of its value."""


@dataclass(frozen=True, slots=True)
class EffectFailure:
    """An effect of an earlier pass that did not succeed. `key` is the object it was for; `reason` that of the typed error.

    `stuck` is True when waiting can't help: an immutable field changed, the object is somebody else's, a person has to act.
    """

    key: ObjectKey
    reason: str
    message: str
    stuck: bool = False


@dataclass(frozen=True, slots=True)
class Contest:
    """Somebody keeps taking fields of an object back. `fingerprint` is the content that was contested: other content is applied at once."""

    fingerprint: str
    managers: tuple[str, ...]
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Input of every decision. `spec` is None when the object does not validate; `spec_error` then says why.

    `secrets` maps the name of each own or referenced Secret to its facts, or to None where the Secret does not exist.
    `namespace_terminating` is None while unknown.
    """

    identity: Identity
    spec: ChatbotInstanceSpec | None
    spec_error: str
    status: ChatbotInstanceStatus
    children: Mapping[ObjectKey, ChildState]
    secrets: Mapping[str, SecretFacts | None]
    operator: OperatorFacts
    now: datetime
    namespace_terminating: bool | None = None
    failures: tuple[EffectFailure, ...] = ()
    """What went wrong in the effects of the pass before, at this generation; the status tells it from then on."""
    contested: Mapping[ObjectKey, Contest] = field(default_factory=dict)
    """Objects of which we forced one field back three times in ten minutes; left alone while listed here."""
    restart_slots: int = 1
    """How many more instances may take new pod templates of a newer operator now (`CHATBOT_MAX_CONCURRENT_RESTARTS`); at least 1 for
    an instance that already holds a slot. Asked for by `ANNOTATION_APPLY_UPDATE` with this operator's version."""
    restarting: tuple[str, ...] = ()
    """The other instances that hold a slot, as `namespace/name`."""

    @property
    def requested(self) -> bool:
        """Return whether a person asks for a pass that was not made yet: what waits is tried again."""
        asked = self.identity.annotations.get(ANNOTATION_RECONCILE_AT)
        return asked is not None and asked != self.status.last_handled_reconcile_at
