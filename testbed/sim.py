"""Simulated nodes: kwok and our simulator make a thousand chatbots Ready without running one container."""

import sys
import time
from pathlib import Path
from typing import Any, Final

from testbed.api import Api
from testbed.errors import Failed
from testbed.plane import Site
from testbed.processes import Processes
from testbed.progress import Progress
from testbed.settings import Settings
from testbed.simulator import PROVISIONER
from testbed.tools import binary

_STAGES: Final = Path(__file__).with_name("stages.yaml")
_TIMEOUT: Final = 60.0
_MARK: Final = "kwok.x-k8s.io/node"


def up(settings: Settings, site: Site, progress: Progress) -> None:
    """Start kwok and the simulator beside a running plane and wait until every node is Ready.

    Raises:
        Failed: A process ended or the nodes did not get ready.
    """
    kwok = binary(settings, "kwok", progress)
    processes = Processes(settings)
    api = Api.from_settings(settings)
    with progress.step(f"{site.simulated_nodes} simulated node(s)"):
        api.apply("/apis/storage.k8s.io/v1/storageclasses/standard", _storage_class())
        processes.start("kwok", [str(kwok), *_flags(settings)], prefix=site.prefix)
        processes.start(
            "simulator",
            [sys.executable, "-m", "testbed.simulator", str(settings.kubeconfig("simulator"))],
            prefix=site.prefix,
            env={"PYTHONPATH": str(Path(__file__).parents[1])},
        )
        for number in range(1, site.simulated_nodes + 1):
            api.create("/api/v1/nodes", _node(f"sim-{number}"))
        _wait_ready(api, processes, site.simulated_nodes)


def _wait_ready(api: Api, processes: Processes, count: int) -> None:
    deadline = time.monotonic() + _TIMEOUT
    while sum(map(_ready, api.get("/api/v1/nodes")["items"])) < count:
        for name in ("kwok", "simulator"):
            processes.require_alive(name)
        if time.monotonic() > deadline:
            raise Failed(f"Waited {_TIMEOUT:.0f} s for {count} simulated nodes; see {processes.settings.log / 'kwok.log'}.")
        time.sleep(0.1)


def _ready(node: dict[str, Any]) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in node["status"].get("conditions", []))


def _flags(settings: Settings) -> list[str]:
    return [
        f"--kubeconfig={settings.kubeconfig('kwok')}",
        f"--config={_STAGES}",
        f"--manage-nodes-with-annotation-selector={_MARK}=fake",
        "--node-ip=198.51.100.1",  # reserved for documentation: nothing answers there
        "--cidr=10.245.0.0/16",
        "--node-lease-duration-seconds=40",
        f"--server-address=127.0.0.1:{settings.port('kwok')}",
    ]


def _node(name: str) -> dict[str, Any]:
    room = {"cpu": "10k", "memory": "64Ti", "pods": "100k", "ephemeral-storage": "64Ti"}
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "type": "kwok"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {_MARK: "fake"}},
        "status": {"capacity": room, "allocatable": room},
    }


def _storage_class() -> dict[str, Any]:
    """Return the default class; unlike the real node's `local` volumes these can grow."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": True,
    }
