"""The API server accepts and refuses instances as the CRD says, and each refusal names the field. Needs the control plane.

Each file in `data/<kind>` is one case: patches of the smallest object of that kind, one accepted and one rejected. With `before`, the
object exists in that form first and the two are updates.
"""

import copy
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from chatbot_operator.api.v1alpha1.kinds import KINDS
from chatbot_operator.constants import API_VERSION
from testbed.api import Api, ApiError
from testbed.tools import binary
from tests.support.cluster import Cluster
from tools.crd import render_crd
from tools.generate import ROOT

SPECS = {
    "ChatbotInstance": {"release": {"version": "1.0.0", "image": "registry.example.com/chatbot@sha256:" + "0" * 64}},
    "ChatbotBackup": {"instanceRef": {"name": "shop"}},
}
SMALLEST = {kind: {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "smallest"}, "spec": spec} for kind, spec in SPECS.items()}
CASES = {
    (kind, path.stem): yaml.safe_load(path.read_text())
    for kind in SPECS
    for path in sorted((Path(__file__).parent / "data" / kind.lower()).glob("*.yaml"))
}


def merge(target: Any, patch: Any) -> Any:
    """Return a JSON merge patch applied: None removes."""
    if not isinstance(patch, dict):
        return patch
    result = copy.deepcopy(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


class Objects:
    """The collection of one kind in one namespace, asked strictly as kubectl does."""

    def __init__(self, api: Api, namespace: str, kind: str = "ChatbotInstance") -> None:
        self._api = api
        self._smallest = SMALLEST[kind]
        self._path = f"/apis/{API_VERSION}/namespaces/{namespace}/{kind.lower()}s"

    def create(self, patch: Any) -> Any:
        return self._api.create(f"{self._path}?fieldValidation=Strict", merge(self._smallest, patch))

    def update(self, name: str, patch: Any) -> Any:
        return self._api.patch(f"{self._path}/{name}?fieldValidation=Strict", patch)


@pytest.fixture(scope="module")
def api(cluster: Cluster, crds: list[str]) -> Api:
    assert crds
    return Api(cluster.admin)


@pytest.fixture
def instances(api: Api, namespace: str) -> Objects:
    return Objects(api, namespace)


def attempt(api: Api, namespace: str, case: tuple[str, str], patch: Any) -> Any:
    objects = Objects(api, namespace, case[0])
    if "before" not in CASES[case]:
        return objects.create(patch)
    made = objects.create(CASES[case]["before"])
    return objects.update(made["metadata"]["name"], patch)


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_accepted(api: Api, namespace: str, case: tuple[str, str]) -> None:
    assert attempt(api, namespace, case, CASES[case]["accepted"])["spec"]


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_rejected_naming_the_field(api: Api, namespace: str, case: tuple[str, str]) -> None:
    wanted = CASES[case]
    with pytest.raises(ApiError) as refusal:
        attempt(api, namespace, case, wanted["rejected"])
    assert refusal.value.status in (400, 422)
    assert wanted["field"] in str(refusal.value)
    assert wanted["message"] in str(refusal.value)


def rule_messages() -> Iterator[str]:
    """Yield the message of every CEL rule in every CRD."""

    def walk(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            for rule in node.get("x-kubernetes-validations", []):
                yield rule["message"]
            for child in node.values():
                yield from walk(child)

    for kind in KINDS:
        yield from walk(render_crd(kind)["spec"]["versions"][0]["schema"])


def test_every_rule_has_a_case() -> None:
    covered = [case["message"] for case in CASES.values()]
    assert [message for message in set(rule_messages()) if not any(message.startswith(part) for part in covered)] == []


def test_the_smallest_instance_gets_its_defaults(instances: Objects) -> None:
    made = instances.create({})
    assert made["status"] == {"observedGeneration": -1}
    spec = made["spec"]
    assert spec["lifecycle"] == "Running"
    assert spec["deletionPolicy"] == "Retain"
    assert spec["app"]["replicas"] == 2
    assert spec["database"] == {"mode": "Managed", "storage": {"size": "20Gi"}}
    assert spec["cache"]["storage"] == {"size": "1Gi"}
    assert spec["release"]["tagPolicy"] == "Deny"


def test_defaults_of_the_api_server_are_those_of_the_models(api: Api, namespace: str) -> None:
    for kind in KINDS:
        made = Objects(api, namespace, kind.name).create({})["spec"]
        assert kind.spec.model_validate(made).model_dump() == kind.spec.model_validate(SPECS[kind.name]).model_dump()


@pytest.mark.parametrize("path", sorted((ROOT / "manifests/samples").glob("*.yaml")), ids=lambda path: path.stem)
def test_samples_are_accepted(api: Api, namespace: str, path: Path) -> None:
    found = [document for document in yaml.safe_load_all(path.read_text()) if document["kind"] in SPECS]
    assert found
    for document in found:
        document["metadata"]["namespace"] = namespace
        plural = f"{document['kind'].lower()}s"
        api.create(f"/apis/{API_VERSION}/namespaces/{namespace}/{plural}?fieldValidation=Strict", document)


def test_kubectl_lists_by_category_and_short_name(api: Api) -> None:
    resources = {resource["name"]: resource for resource in api.get(f"/apis/{API_VERSION}")["resources"]}
    for kind in KINDS:
        assert resources[kind.plural]["categories"] == ["chatbot"]
        assert resources[kind.plural]["shortNames"] == list(kind.short_names)
        assert f"{kind.plural}/status" in resources


def test_columns_of_kubectl(cluster: Cluster, api: Api, instances: Objects, namespace: str) -> None:
    name = instances.create({})["metadata"]["name"]
    path = f"/apis/{API_VERSION}/namespaces/{namespace}/chatbotinstances/{name}/status"
    conditions = [
        {
            "type": "Ready",
            "status": "False",
            "reason": "ComponentsNotReady",
            "message": "postgres",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-11-25T12:00:00Z",
        },
    ]
    conditions.append({**conditions[0], "type": "WorkerReady", "status": "True", "reason": "Available"})
    components = [{"name": "app", "ready": "True", "replicas": "2/2"}, {"name": "postgres", "ready": "False", "replicas": "0/1"}]
    api.patch(path, {"status": {"conditions": conditions, "components": components, "release": {"stable": "1.0.0"}}})
    command = [binary(cluster.settings, "kubectl"), f"--kubeconfig={cluster.admin}", "get", "cbi", "-o", "wide", "-n", namespace]
    head, line = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    starts = [match.start() for match in re.finditer(r"\S+", head)]
    row = {head[a:b].strip(): line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)}
    del row["AGE"]
    assert row == {
        "NAME": name,
        "READY": "False",
        "REASON": "ComponentsNotReady",
        "RELEASE": "1.0.0",
        "APP": "2/2",
        "WORKER": "True",
        "WANTED": "1.0.0",
        "SCHEMA": "",
        "LIFECYCLE": "Running",
        "MESSAGE": "postgres",
    }


def test_status_keeps_what_a_newer_operator_wrote(api: Api, instances: Objects, namespace: str) -> None:
    name = instances.create({})["metadata"]["name"]
    path = f"/apis/{API_VERSION}/namespaces/{namespace}/chatbotinstances/{name}/status"
    written = api.patch(path, {"status": {"release": {"stable": "1.0.0", "cameLater": {"a": 1}}, "alsoLater": [1, 2]}})
    assert written["status"]["release"]["cameLater"] == {"a": 1}
    assert written["status"]["alsoLater"] == [1, 2]
