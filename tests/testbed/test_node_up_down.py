"""Needs root, the node's programs and a machine without another node: what a real node takes from the machine it gives back."""

import ipaddress
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.api import Api
from testbed.netns import NODE_ADDRESS
from testbed.processes import Processes
from testbed.settings import Settings
from tests.support.cluster import find, fresh_settings, run_testbed

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def machine() -> dict[str, set[str]]:
    """Return everything of this machine that a node could leave changed."""
    groups = {str(path) for path in Path("/sys/fs/cgroup").rglob("*") if path.is_dir()}
    routes = json.loads(subprocess.run(["ip", "-j", "route"], capture_output=True, check=True).stdout)
    return {
        "mounts": {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()},
        "interfaces": {path.name for path in Path("/sys/class/net").iterdir()},
        "routes": {f"{route['dst']} {route.get('dev')}" for route in routes},
        "namespaces": {path.name for path in Path("/run/netns").iterdir()} if Path("/run/netns").exists() else set(),
        "control groups": groups,
    }


def another_node_is_up() -> bool:
    routes = json.loads(subprocess.run(["ip", "-j", "route", "show", "table", "all"], capture_output=True, check=True).stdout)
    address = ipaddress.ip_address(NODE_ADDRESS)
    networks = [route["dst"] for route in routes if "/" in str(route.get("dst"))]
    return any(address in ipaddress.ip_network(network, strict=False) for network in networks)


@pytest.fixture
def settings() -> Iterator[Settings]:
    if os.geteuid() != 0:
        pytest.skip("a node needs root")
    if another_node_is_up():
        pytest.skip("another node is up on this machine, and there is room for one")
    with fresh_settings() as fresh:
        yield fresh
        run_testbed(fresh, "down")


def test_a_node_gives_the_machine_back_as_it_was_even_after_a_crash(settings: Settings) -> None:
    before = machine()
    run_testbed(settings, "up", "--node", timeout=3600)
    cluster = find(settings.directory)
    assert cluster is not None
    api = Api(cluster.admin)
    [node] = api.get("/api/v1/nodes")["items"]
    assert {each["type"]: each["status"] for each in node["status"]["conditions"]}["Ready"] == "True"
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}},
    }
    container = {"name": "main", "image": "localhost/pause:1", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    image = next(name for each in node["status"]["images"] for name in each["names"] if "pause" in name and "@" not in name)
    container["image"] = image
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "user"},
        "spec": {"containers": [container], "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]},
    }
    api.create("/api/v1/namespaces/default/persistentvolumeclaims", claim)
    api.create("/api/v1/namespaces/default/pods", pod)
    deadline = time.monotonic() + 60
    while api.get("/api/v1/namespaces/default/pods/user")["status"]["phase"] != "Running":
        assert time.monotonic() < deadline, api.get("/api/v1/namespaces/default/pods/user")["status"]
        time.sleep(0.1)

    # The worst crash: everything that was started dies at once, containers and their mounts stay.
    processes = Processes(settings)
    records = [processes.record(name) for name in processes.names()]
    for record in records:
        assert record is not None
        os.kill(record.pid, signal.SIGKILL)
    while any(record.alive() for record in records if record):
        time.sleep(0.01)
    run_testbed(settings, "up", "--node")
    assert find(settings.directory) is not None

    run_testbed(settings, "down")
    assert list(processes.strays()) == []
    assert machine() == before
