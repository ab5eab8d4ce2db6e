"""What follows from the API models is committed and up to date, and fits into a cluster. Needs nothing."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from chatbot_operator.api.v1alpha1.kinds import KINDS
from tools import generate
from tools.crd import render_crd
from tools.generate import ROOT, find_drift

CRDS = [pytest.param(path, id=path.stem) for path in sorted((ROOT / "crds").glob("*.yaml"))]


def test_nothing_drifted() -> None:
    assert find_drift() == []


@pytest.mark.parametrize("path", sorted(generate.render_files()))
def test_a_changed_file_is_noticed(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in generate.render_files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    assert find_drift() == []
    (tmp_path / path).write_text((tmp_path / path).read_text().replace("chatbotops", "otherops", 1))
    assert find_drift() == [path]
    (tmp_path / path).unlink()
    assert find_drift() == [path]


def test_a_forgotten_file_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in generate.render_files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "crds/chatbotops.io_oldkinds.yaml").write_text("")
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    assert find_drift() == ["crds/chatbotops.io_oldkinds.yaml"]


@pytest.mark.parametrize("path", CRDS)
def test_crd_stays_below_the_limit_of_etcd_and_kubectl(path: Path) -> None:
    # kubectl apply keeps a copy in an annotation of at most 256 KiB.
    assert path.stat().st_size < 250_000


def _nodes(node: dict[str, Any], path: str = "") -> list[tuple[str, dict[str, Any]]]:
    found = [(path, node)]
    for name, child in node.get("properties", {}).items():
        found += _nodes(child, f"{path}.{name}")
    if "items" in node:
        found += _nodes(node["items"], f"{path}[]")
    return found


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
class TestSchema:
    def _parts(self, kind: Any) -> list[tuple[str, dict[str, Any]]]:
        root = render_crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
        return _nodes(root["spec"], "spec") + _nodes(root["status"], "status")

    def test_every_field_is_described(self, kind: Any) -> None:
        bare = [path for path, node in self._parts(kind) if not node.get("description") and not path.endswith("[]")]
        assert bare == []

    def test_every_list_map_and_text_of_the_spec_is_bounded(self, kind: Any) -> None:
        # Unbounded ones make CEL's estimated cost explode, and let one object fill etcd.
        unbounded = []
        for path, node in self._parts(kind):
            if not path.startswith("spec"):
                continue
            if node["type"] == "array" and "maxItems" not in node:
                unbounded.append(path)
            if "additionalProperties" in node and "maxProperties" not in node:
                unbounded.append(path)
            if node["type"] == "string" and not {"enum", "maxLength", "pattern"} & node.keys():
                unbounded.append(path)
        assert unbounded == []

    def test_no_floats(self, kind: Any) -> None:
        assert [path for path, node in self._parts(kind) if node["type"] == "number"] == []

    def test_lists_of_objects_with_a_name_or_type_are_maps(self, kind: Any) -> None:
        plain = []
        for path, node in self._parts(kind):
            named = {"name", "type"} & node.get("items", {}).get("properties", {}).keys()
            if named and node.get("x-kubernetes-list-type") != "map":
                plain.append(path)
        assert plain == []

    def test_status_starts_with_an_unobserved_generation(self, kind: Any) -> None:
        status = render_crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
        assert status["default"] == {"observedGeneration": -1}


def test_smallest_spec_is_release_only() -> None:
    for kind in KINDS:
        if kind.name == "ChatbotInstance":
            crd = render_crd(kind)
            spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
            assert spec["required"] == ["release"]
            assert spec["properties"]["release"]["required"] == ["version"]


def test_yaml_on_disk_is_what_kubectl_reads() -> None:
    for parameter in CRDS:
        document = yaml.safe_load(parameter.values[0].read_text())
        assert document["kind"] == "CustomResourceDefinition"
        assert document["spec"]["names"]["categories"] == ["chatbot"]
