"""Needs kubectl: `kubectl kustomize` makes the sample as the API server takes it, with images and Secrets of a team's own."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from chatbot_operator.api.v1alpha1.common import SecretRef
from chatbot_operator.api.v1alpha1.kinds import KINDS
from chatbot_operator.constants import API_VERSION
from testbed.api import Api
from testbed.settings import Settings
from testbed.tools import binary
from tests.support.cluster import Cluster
from tools.crd import render_crd
from tools.generate import ROOT

MANIFESTS = ROOT / "manifests"
IMAGE = "registry.example.com/chatbot"
DIGEST = f"sha256:{'1' * 64}"
_IS_SECRET = SecretRef.model_fields["name"].description


def build(folder: Path) -> list[Any]:
    """Return what kustomize makes of a folder."""
    command = [str(binary(Settings.from_env(), "kubectl")), "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def secret_fields() -> Iterator[tuple[str, str]]:
    """Yield kind and path of each field that holds the name of a Secret."""

    def walk(node: Any, path: str) -> Iterator[str]:
        for name, child in node.get("properties", {}).items():
            if name == "name" and child.get("description") == _IS_SECRET:
                yield f"{path}/name"
            yield from walk(child, f"{path}/{name}" if path else name)
        if isinstance(node.get("items"), dict):
            yield from walk(node["items"], path)

    for kind in KINDS:
        schema = render_crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        yield from ((kind.name, path) for path in walk(schema, ""))


def test_it_makes_the_sample_and_the_api_server_takes_it(cluster: Cluster, crds: list[str], namespace: str) -> None:
    [made] = build(MANIFESTS)
    assert made == yaml.safe_load((MANIFESTS / "samples/production.yaml").read_text())
    assert crds
    made["metadata"]["namespace"] = namespace
    Api(cluster.admin).create(f"/apis/{API_VERSION}/namespaces/{namespace}/chatbotinstances?fieldValidation=Strict", made)


def test_every_field_with_the_name_of_a_secret_is_told() -> None:
    [told] = yaml.safe_load((MANIFESTS / "kustomize-fields.yaml").read_text())["nameReference"]
    assert sorted((each["kind"], each["path"]) for each in told["fieldSpecs"]) == sorted(secret_fields())


@pytest.mark.parametrize("sample", ["production", "external-services"])
def test_images_and_generated_secrets_reach_the_instance(tmp_path: Path, sample: str) -> None:
    shutil.copytree(MANIFESTS, tmp_path / "own")
    text = (tmp_path / f"own/samples/{sample}.yaml").read_text()
    names = [name for name in ("acme-auth", "acme-registry", "acme-whatsapp", "external-stores") if f"name: {name}" in text]
    assert names
    own = yaml.safe_load((MANIFESTS / "kustomization.yaml").read_text())
    own["resources"] = [f"samples/{sample}.yaml"]
    own["images"] = [{"name": IMAGE, "newName": "registry.example.org/bot", "digest": DIGEST}]
    own["secretGenerator"] = [{"name": name, "literals": ["key=value"]} for name in names]
    (tmp_path / "own/kustomization.yaml").write_text(yaml.safe_dump(own))
    made = build(tmp_path / "own")
    [instance] = [document for document in made if document["kind"] == "ChatbotInstance"]
    secrets = {document["metadata"]["name"] for document in made if document["kind"] == "Secret"}
    assert instance["spec"]["release"]["image"] == f"registry.example.org/bot@{DIGEST}"
    assert not secrets & set(names)
    expected = {name: next(made for made in secrets if made.startswith(f"{name}-")) for name in names}
    assert _names(instance["spec"], set(names) | secrets) == set(expected.values())


def _names(node: Any, known: set[str]) -> set[str]:
    """Return the values named `name` that are known ones."""
    if isinstance(node, list):
        return set().union(*(_names(child, known) for child in node))
    if isinstance(node, dict):
        own = {node["name"]} & known if isinstance(node.get("name"), str) else set()
        return own.union(*(_names(child, known) for child in node.values()))
    return set()
