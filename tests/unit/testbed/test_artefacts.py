"""Needs nothing: what a failed test on a real node leaves behind, asked of an API server of the test's own."""

import json
from pathlib import Path
from typing import Any

import pytest

from testbed.api import ApiError
from testbed.settings import Settings
from tests.support import artefacts
from tests.support.cluster import Cluster

PODS = [
    {
        "metadata": {"name": "acme-app-1"},
        "spec": {"initContainers": [{"name": "wait"}], "containers": [{"name": "app"}]},
        "status": {"containerStatuses": [{"name": "app", "restartCount": 2}]},
    },
    {"metadata": {"name": "acme-app-2"}, "spec": {"containers": [{"name": "app"}]}, "status": {}},
]


class FakeApi:
    """Knows two pods, one of which has not started, and a Secret."""

    def __init__(self, _: Path) -> None:
        pass

    def get(self, path: str, **_: str) -> dict[str, Any]:
        if path.endswith("/pods"):
            return {"items": json.loads(json.dumps(PODS))}
        return {"items": [{"data": {"password": "c2VjcmV0"}}] if path.endswith("/secrets") else []}

    def text(self, path: str, **query: str) -> str:
        if "acme-app-2" in path:
            raise ApiError(400, "container is waiting to start")
        return f"{query['container']}, previous={query.get('previous', 'false')}"


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr(artefacts, "Api", FakeApi)
    return Cluster(Settings(directory=tmp_path / "run", cache=tmp_path / "cache", port_base=20000), "https://localhost", "node")


def test_every_container_leaves_its_log_and_the_one_before_a_restart(node: Cluster, tmp_path: Path) -> None:
    artefacts.collect(node, "chat", "user", [], tmp_path / "found")
    artefacts.collect_logs(node, "chatbot-operator", tmp_path / "found")
    for namespace in ("chat", "chatbot-operator"):
        logs = {path.name: path.read_text() for path in (tmp_path / "found" / "logs" / namespace).iterdir()}
        assert logs == {
            "acme-app-1.wait.log": "wait, previous=false",
            "acme-app-1.app.log": "app, previous=false",
            "acme-app-1.app.previous.log": "app, previous=true",
            "acme-app-2.app.log": "400: container is waiting to start",
        }
    assert "c2VjcmV0" not in (tmp_path / "found" / "Secret.json").read_text()


def test_simulated_pods_have_no_logs(node: Cluster, tmp_path: Path) -> None:
    artefacts.collect(Cluster(node.settings, node.server, "sim"), "chat", "user", [], tmp_path / "found")
    assert (tmp_path / "found" / "Pod.json").exists()
    assert not (tmp_path / "found" / "logs").exists()
