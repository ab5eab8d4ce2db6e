"""Pure. Compute resources: what the spec leaves out has its documented default, and no request exceeds its limit."""

import re
from typing import Any

import pytest

from chatbot_operator.api.v1alpha1.instance import App, Cache, Database, Scheduler, WorkerWeb
from chatbot_operator.desired.quantity import amount, mebibytes
from tests.support.simcluster import Cluster, minimal

MODELS = {"app": App, "scheduler": Scheduler, "workerWeb": WorkerWeb, "database": Database, "cache": Cache}
WORKLOADS = {
    "app": ("Deployment", "demo-app"),
    "scheduler": ("Deployment", "demo-scheduler"),
    "workerWeb": ("StatefulSet", "demo-web-main"),
    "database": ("StatefulSet", "demo-postgres"),
    "cache": ("StatefulSet", "demo-redis"),
}


def rendered(part: str, given: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return the resources of the container that a part of the spec describes."""
    numbers = {"numbers": [{"name": "main"}]}
    spec: dict[str, Any] = {"workerWeb": numbers, part: {"resources": given, **(numbers if part == "workerWeb" else {})}}
    cluster = Cluster(minimal(**spec))
    cluster.settle()
    found: dict[str, dict[str, str]] = cluster.thing(*WORKLOADS[part]).body["spec"]["template"]["spec"]["containers"][0]["resources"]
    return found


@pytest.mark.parametrize("part", MODELS)
def test_the_defaults_are_those_that_the_reference_tells(part: str) -> None:
    text = str(MODELS[part].model_fields["resources"].description)
    if part == "cache":
        data = int(amount(Cache().max_memory)) // 2**20
        text = text.replace("1.5 x maxMemory + 64Mi", mebibytes(data * 3 // 2 + 64)).replace("maxMemory + 32Mi", mebibytes(data + 32))
    told = re.search(r"Defaults: requests (\S+) CPU and (\S+) memory, memory limit (\w+)\.", text)
    assert told
    assert rendered(part, {}) == {"requests": {"cpu": told[1], "memory": told[2]}, "limits": {"memory": told[3]}}


@pytest.mark.parametrize(
    ("given", "requests", "limits"),
    [
        ({"requests": {"cpu": "200m"}}, ("200m", "192Mi"), (None, "512Mi")),
        ({"requests": {"memory": "256Mi"}}, ("100m", "256Mi"), (None, "512Mi")),
        ({"requests": {"memory": "2Gi"}}, ("100m", "2Gi"), (None, "2Gi")),
        ({"limits": {"cpu": "1"}}, ("100m", "192Mi"), ("1", "512Mi")),
        ({"limits": {"cpu": "50m"}}, ("50m", "192Mi"), ("50m", "512Mi")),
        ({"limits": {"memory": "1Gi"}}, ("100m", "192Mi"), (None, "1Gi")),
        ({"limits": {"memory": "128Mi"}}, ("100m", "128Mi"), (None, "128Mi")),
        ({"requests": {}, "limits": {}}, ("100m", "192Mi"), (None, "512Mi")),
        ({"requests": {"cpu": "0.5", "memory": "1024Mi"}, "limits": {"cpu": "2", "memory": "3Gi"}}, ("500m", "1Gi"), ("2", "3Gi")),
    ],
)
def test_what_is_given_wins_and_the_rest_has_its_default(
    given: dict[str, Any], requests: tuple[str, str], limits: tuple[str | None, str]
) -> None:
    assert rendered("app", given) == {
        "requests": {"cpu": requests[0], "memory": requests[1]},
        "limits": {name: value for name, value in zip(("cpu", "memory"), limits, strict=True) if value},
    }
