"""Makes `local` volumes (the kubelet sets fsGroup on those) for claims: directories, or file systems of exactly the asked size."""

import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

from testbed.api import Api, ApiError
from testbed.plane import NODE_NAME
from testbed.processes import Processes
from testbed.settings import Settings

NAME: Final = "testbed.chatbotops.io/local"
_SELECTED: Final = "volume.kubernetes.io/selected-node"
_PROVISIONED: Final = "pv.kubernetes.io/provisioned-by"
_CLAIMS: Final = "/api/v1/persistentvolumeclaims"
_VOLUMES: Final = "/api/v1/persistentvolumes"
_CLASSES: Final = "/apis/storage.k8s.io/v1/storageclasses"
_UNITS: Final = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_RESYNC_S: Final = 30.0
_HTTP_CONFLICT: Final = 409

Object = dict[str, Any]


def start(settings: Settings, processes: Processes, prefix: Sequence[str], directory: Path) -> None:
    """Start the provisioner as a process in the node's mount namespace, where its mounts belong."""
    command = [sys.executable, "-m", "testbed.provisioner", str(settings.kubeconfig("admin")), str(directory)]
    processes.start("provisioner", command, prefix=prefix, env={"PYTHONPATH": str(Path(__file__).parents[1])})


def parse_size(quantity: str) -> int:
    """Return a storage quantity in bytes.

    Raises:
        ValueError: not a quantity that we know.
    """
    match = re.fullmatch(r"(\d+)([KMGT]i?)?", quantity)
    if match is None:
        raise ValueError(f"{quantity!r} is not a size such as 10Gi")
    return int(match[1]) * _UNITS[match[2] or ""]


def render_volume(claim: Object, storage_class: Object, path: Path) -> Object:
    """Return the PersistentVolume for a claim; its name is made from the claim's uid, so that making it twice is the same."""
    metadata = claim["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"pvc-{metadata['uid']}", "annotations": {_PROVISIONED: NAME}},
        "spec": {
            "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
            "accessModes": claim["spec"]["accessModes"],
            "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy", "Delete"),
            "storageClassName": storage_class["metadata"]["name"],
            "volumeMode": "Filesystem",
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                **{key: metadata[key] for key in ("namespace", "name", "uid")},
            },
            "local": {"path": str(path)},
            "nodeAffinity": {
                "required": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE_NAME]}]}
                    ]
                }
            },
        },
    }


class Provisioner:
    """One pass looks at everything and does what is left; watches only say when."""

    def __init__(self, api: Api, directory: Path) -> None:
        self._api = api
        self._directory = directory

    def reconcile(self) -> None:
        """Make volumes that claims wait for; remove those whose claim is gone and whose policy is Delete."""
        classes = {item["metadata"]["name"]: item for item in self._api.get(_CLASSES)["items"] if item["provisioner"] == NAME}
        volumes = {item["metadata"]["name"]: item for item in self._api.get(_VOLUMES)["items"]}
        for claim in self._api.get(_CLAIMS)["items"]:
            storage_class = classes.get(claim["spec"].get("storageClassName", ""))
            if storage_class and self._waits(claim) and f"pvc-{claim['metadata']['uid']}" not in volumes:
                self._provision(claim, storage_class)
        for name, volume in volumes.items():
            ours = volume["metadata"].get("annotations", {}).get(_PROVISIONED) == NAME
            released = volume.get("status", {}).get("phase") == "Released"
            if ours and released and volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete":
                self._remove(name)
                self._api.delete(f"{_VOLUMES}/{name}")

    @staticmethod
    def _waits(claim: Object) -> bool:
        chosen = claim["metadata"].get("annotations", {}).get(_SELECTED) == NODE_NAME
        return chosen and not claim["spec"].get("volumeName") and "deletionTimestamp" not in claim["metadata"]

    def _provision(self, claim: Object, storage_class: Object) -> None:
        path = self._directory / f"pvc-{claim['metadata']['uid']}"
        path.mkdir(mode=0o755, exist_ok=True)
        if storage_class.get("parameters", {}).get("limited") == "true":
            self._mount_image(path, parse_size(claim["spec"]["resources"]["requests"]["storage"]))
        try:
            self._api.create(_VOLUMES, render_volume(claim, storage_class, path))
        except ApiError as error:
            if error.status != _HTTP_CONFLICT:
                raise
        print(f"provisioned {path.name} for {claim['metadata']['namespace']}/{claim['metadata']['name']}", flush=True)

    def _mount_image(self, path: Path, size: int) -> None:
        """Mount a file system of a size at a path. The loop device frees itself with the mount, hence with the namespace."""
        if path.is_mount():
            return
        image = path.with_suffix(".img")
        with image.open("wb") as file:
            file.truncate(size)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(path)], check=True)
        shutil.rmtree(path / "lost+found")

    def _remove(self, name: str) -> None:
        path = self._directory / name
        if path.is_mount():
            subprocess.run(["umount", str(path)], check=True)
        shutil.rmtree(path, ignore_errors=True)
        path.with_suffix(".img").unlink(missing_ok=True)
        print(f"removed {name}", flush=True)


def _follow(kubeconfig: Path, path: str, wake: threading.Event) -> None:
    """Set an event whenever a collection changes; a lost watch costs at most one resync."""
    while True:
        try:
            api = Api(kubeconfig)
            for _ in api.watch(path, api.get(path, limit="1")["metadata"]["resourceVersion"]):
                wake.set()
        except (ApiError, OSError, HTTPException) as error:
            print(f"watch {path}: {error}", flush=True)
            time.sleep(1)
        wake.set()


def main(arguments: Sequence[str]) -> None:
    """Run for ever: `python -m testbed.provisioner KUBECONFIG DIRECTORY`."""
    kubeconfig, directory = map(Path, arguments)
    wake = threading.Event()
    for path in (_CLAIMS, _VOLUMES):
        threading.Thread(target=_follow, args=(kubeconfig, path, wake), daemon=True).start()
    provisioner = Provisioner(Api(kubeconfig), directory)
    while True:
        wake.clear()
        try:
            provisioner.reconcile()
        except (ApiError, OSError, HTTPException, ValueError, subprocess.CalledProcessError) as error:
            print(f"pass failed, will try again: {error}", flush=True)
            time.sleep(1)
            wake.set()
        wake.wait(_RESYNC_S)


if __name__ == "__main__":
    main(sys.argv[1:])
