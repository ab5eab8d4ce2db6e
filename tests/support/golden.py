"""The instances of the golden files, brought up on the model of a cluster, and what they are made of then."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from chatbot_operator.api.v1alpha1.instance import ChatbotInstanceSpec
from chatbot_operator.desired.references import references
from tests.support.simcluster import Cluster

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = ("minimal", "full", "external", "hibernated", "autoscaled")


def spec_of(case: str) -> ChatbotInstanceSpec:
    """Return the spec of a case."""
    return ChatbotInstanceSpec.model_validate(yaml.safe_load((GOLDEN / "specs" / f"{case}.yaml").read_text()))


def bring_secrets(cluster: Cluster) -> None:
    """Create the Secrets that the spec refers to, as a team does."""
    for name, keys in references(cluster.name, cluster.spec).items():
        cluster.secrets[name] = {key: f"brought-{key}" for key in keys}


def run_case(case: str) -> Cluster:
    """Bring an instance up, hibernate it if the case says so, and return the cluster at rest."""
    spec = spec_of(case)
    cluster = Cluster(spec.model_copy(update={"lifecycle": type(spec.lifecycle).RUNNING}))
    bring_secrets(cluster)
    cluster.settle()
    if spec.lifecycle is not cluster.spec.lifecycle:
        cluster.edit(lifecycle=spec.lifecycle.value)
        cluster.settle()
    return cluster


def live_manifests(cluster: Cluster) -> list[Mapping[str, Any]]:
    """Return what lives at the end, except Secrets, which are generated; ended Jobs are among it."""
    return [thing.body for key, thing in sorted(cluster.things.items()) if key.kind != "Secret"]
