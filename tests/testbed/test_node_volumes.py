"""Needs a real node: volumes are made, filled, kept and removed as their class and policy say."""

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed.api import Api, ApiError
from testbed.provisioner import parse_size
from tests.support.cluster import Cluster, run_testbed, running_cluster

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
IMAGE = "localhost/chatbot-redis:0.1.0"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster("--node") as running:
        run_testbed(running.settings, "images", "redis", timeout=1800)
        yield running


@pytest.fixture
def api(cluster: Cluster) -> Api:
    return Api(cluster.admin)


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    name = f"volumes-{uuid.uuid4().hex[:6]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    api.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    yield name
    api.delete(f"/api/v1/namespaces/{name}")


def wait(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if found := condition():
                return found
        except ApiError as error:
            if error.status != 404:
                raise
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.1)


def make_claim(api: Api, namespace: str, name: str, size: str, storage_class: str | None = None) -> None:
    spec: dict[str, Any] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    if storage_class:
        spec["storageClassName"] = storage_class
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}
    api.create(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims", claim)


def run(api: Api, namespace: str, claim: str, script: str) -> str:
    """Run a script as an unprivileged user with the claim at /data; return what it wrote to its termination log."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "run-"},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10003,
                "fsGroup": 10003,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "run",
                    "image": IMAGE,
                    "args": ["sh", "-c", script],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                }
            ],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
        },
    }
    name = api.create(f"/api/v1/namespaces/{namespace}/pods", pod)["metadata"]["name"]
    path = f"/api/v1/namespaces/{namespace}/pods/{name}"

    def ended() -> dict[str, Any] | None:
        statuses = api.get(path).get("status", {}).get("containerStatuses", [])
        state: dict[str, Any] | None = statuses[0]["state"].get("terminated") if statuses else None
        return state

    state = wait(ended, "the pod's end", 120)
    api.delete(path)
    wait(lambda: not api.exists(path), "the pod to go")
    return str(state.get("message", ""))


def volume_of(api: Api, namespace: str, claim: str) -> dict[str, Any]:
    bound = wait(
        lambda: api.get(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{claim}")["spec"].get("volumeName"), "the claim to be bound"
    )
    return api.get(f"/api/v1/persistentvolumes/{bound}")


def test_a_volume_keeps_its_data_for_an_unprivileged_user_and_goes_with_its_claim(api: Api, namespace: str) -> None:
    make_claim(api, namespace, "data", "1Gi")
    assert run(api, namespace, "data", "echo kept > /data/file && stat -c %g /data > /dev/termination-log") == "10003\n"
    assert run(api, namespace, "data", "cat /data/file > /dev/termination-log") == "kept\n"
    volume = volume_of(api, namespace, "data")
    folder = Path(volume["spec"]["local"]["path"])
    assert (folder / "file").read_text() == "kept\n"
    api.delete(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/data")
    wait(lambda: not api.exists(f"/api/v1/persistentvolumes/{volume['metadata']['name']}"), "the volume to go")
    assert not folder.exists()


def test_a_retained_volume_outlives_its_claim(api: Api, namespace: str) -> None:
    make_claim(api, namespace, "data", "1Gi")
    run(api, namespace, "data", "echo kept > /data/file")
    name = volume_of(api, namespace, "data")["metadata"]["name"]
    api.patch(f"/api/v1/persistentvolumes/{name}", {"spec": {"persistentVolumeReclaimPolicy": "Retain"}})
    api.delete(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/data")
    wait(lambda: api.get(f"/api/v1/persistentvolumes/{name}")["status"]["phase"] == "Released", "the volume to be released")
    # A second claim comes and goes: by then the provisioner has surely looked at the released one.
    make_claim(api, namespace, "other", "1Gi")
    run(api, namespace, "other", "true")
    other = volume_of(api, namespace, "other")["metadata"]["name"]
    api.delete(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/other")
    wait(lambda: not api.exists(f"/api/v1/persistentvolumes/{other}"), "the other volume to go")
    kept = api.get(f"/api/v1/persistentvolumes/{name}")
    assert (Path(kept["spec"]["local"]["path"]) / "file").read_text() == "kept\n"
    # Handed back to the provisioner, it goes.
    api.patch(f"/api/v1/persistentvolumes/{name}", {"spec": {"persistentVolumeReclaimPolicy": "Delete"}})
    wait(lambda: not api.exists(f"/api/v1/persistentvolumes/{name}"), "the retained volume to go")


def test_a_limited_volume_is_full_when_it_says_so(api: Api, namespace: str) -> None:
    make_claim(api, namespace, "small", "32Mi", "limited")
    script = "dd if=/dev/zero of=/data/big bs=1M count=64 2>&1 | grep -o 'No space left on device' > /dev/termination-log"
    assert run(api, namespace, "small", script) == "No space left on device\n"
    size = int(run(api, namespace, "small", "stat -c %s /data/big > /dev/termination-log"))
    assert 16 * 2**20 < size < parse_size("32Mi")
    volume = volume_of(api, namespace, "small")
    api.delete(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/small")
    wait(lambda: not api.exists(f"/api/v1/persistentvolumes/{volume['metadata']['name']}"), "the volume to go")
    folder = Path(volume["spec"]["local"]["path"])
    assert not folder.with_suffix(".img").exists()


@pytest.mark.parametrize(("text", "size"), [("1024", 1024), ("64Mi", 64 * 2**20), ("2G", 2 * 10**9)])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "1.5Gi", "-1Gi", "10Qi"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)
