"""What rendering may know: the spec, the targets that machines set, and a few observed facts. Nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from chatbot_operator.api.v1alpha1.instance import ChatbotInstanceSpec
from chatbot_operator.model.snapshot import OperatorFacts, SecretFacts
from chatbot_operator.model.targets import Targets


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim that exists: what it requests, its StorageClass, and the database that it is marked with (empty texts for none)."""

    size: str = ""
    storage_class: str = ""
    identifier: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """Facts about live objects that a manifest must respect.

    `claims` are by name: a claim neither shrinks nor changes its class, and the mark of a kept volume outlives every doubt about it.
    `app_replicas` is the live number of the app's Deployment (None when it does not exist), `app_replicas_foreign` whether another
    manager, the autoscaler, owns that number.
    """

    claims: Mapping[str, Claim] = field(default_factory=dict)
    app_replicas: int | None = None
    app_replicas_foreign: bool = False


@dataclass(frozen=True, slots=True)
class Inputs:
    """Input of all renderers. `volume_generation` is N of the claim, `system_identifier` empty until the database is known."""

    namespace: str
    name: str
    uid: str
    spec: ChatbotInstanceSpec
    targets: Targets
    operator: OperatorFacts
    secrets: Mapping[str, SecretFacts | None] = field(default_factory=dict)
    observed: Observed = Observed()
    volume_generation: int = 1
    system_identifier: str = ""
