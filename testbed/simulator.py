"""Plays what kwok can't: volumes of a StorageClass, and Jobs of a chatbot that end with a result.

Runs as a process of the test bed (`python -m testbed.simulator KUBECONFIG`). Level-triggered: it lists, then watches, and acts on what an
object *is*, so that missed events and restarts do no harm. Several threads act at once: on a loaded machine a request takes long, and
one at a time would make the simulation the slowest part of a benchmark. What an image's name holds decides how its Jobs end:
`fail-bootstrap`, `fail-migrate`, `fail-backup` and `fail-verify` fail, `rev0042` migrates to revision 0042 (default 0001).
"""

import hashlib
import http.client
import json
import re
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from testbed.api import Api, ApiError, Object

PROVISIONER: Final = "testbed.chatbotops.io/simulated"
COMPONENT: Final = "chatbotops.io/component"
_INSTANCE: Final = "chatbotops.io/instance"
_SELECTED_NODE: Final = "volume.kubernetes.io/selected-node"
_PROVISIONED_BY: Final = "pv.kubernetes.io/provisioned-by"
_CLAIMS, _VOLUMES, _PODS = "/api/v1/persistentvolumeclaims", "/api/v1/persistentvolumes", "/api/v1/pods"
_BACK_OFF_SECONDS: Final = 1.0
_ATTEMPTS: Final = 5
_THREADS: Final = 16
_TROUBLE: Final = (ApiError, OSError, http.client.HTTPException, ValueError)


class Volumes:
    """Makes, grows and deletes volumes that hold nothing, as a provisioner of `local` volumes would."""

    def __init__(self, api: Callable[[], Api]) -> None:
        self._api = api
        self._classes: dict[str, Object] = {}
        self._made: set[str] = set()

    def claim(self, claim: Object) -> None:
        """Make the volume of a pending claim, and grow a bound one whose request has grown."""
        storage_class = self._class(claim["spec"].get("storageClassName"))
        if storage_class is None or storage_class["provisioner"] != PROVISIONER or claim["metadata"].get("deletionTimestamp"):
            return
        phase = claim.get("status", {}).get("phase")
        if phase == "Pending":
            self._provision(claim, storage_class)
        elif phase == "Bound":
            self._grow(claim)

    def volume(self, volume: Object) -> None:
        """Delete a released volume whose policy is Delete; one with Retain stays for ever."""
        mine = volume["metadata"].get("annotations", {}).get(_PROVISIONED_BY) == PROVISIONER
        released = volume.get("status", {}).get("phase") == "Released"
        if (
            mine
            and released
            and volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
            and "deletionTimestamp" not in volume["metadata"]
        ):
            self._api().delete(f"{_VOLUMES}/{volume['metadata']['name']}")

    def _class(self, name: str | None) -> Object | None:
        if name and name not in self._classes:
            try:
                self._classes[name] = self._api().get(f"/apis/storage.k8s.io/v1/storageclasses/{name}")
            except ApiError as error:
                if error.status != http.client.NOT_FOUND:
                    raise
        return self._classes.get(name or "")

    def _provision(self, claim: Object, storage_class: Object) -> None:
        metadata = claim["metadata"]
        node = metadata.get("annotations", {}).get(_SELECTED_NODE)
        if storage_class.get("volumeBindingMode") == "WaitForFirstConsumer" and not node:
            return  # the scheduler has chosen no node yet; its annotation will be the next event
        name = f"pvc-{metadata['uid']}"
        if name in self._made:
            return  # the claim has changed on its way to being bound
        affinity = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]}
        spec = {
            "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
            "accessModes": claim["spec"]["accessModes"],
            "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy", "Delete"),
            "storageClassName": storage_class["metadata"]["name"],
            "volumeMode": claim["spec"].get("volumeMode", "Filesystem"),
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
            # Nothing ever mounts it. A `local` volume must name its node; hostPath serves a class that binds before there is one.
            **(
                {"local": {"path": f"/simulated/{name}"}, "nodeAffinity": {"required": affinity}}
                if node
                else {"hostPath": {"path": f"/simulated/{name}"}}
            ),
        }
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name, "annotations": {_PROVISIONED_BY: PROVISIONER}},
            "spec": spec,
        }
        _ignore(http.client.CONFLICT, lambda: self._api().create(_VOLUMES, volume))
        self._made.add(name)

    def _grow(self, claim: Object) -> None:
        wanted = claim["spec"]["resources"]["requests"]["storage"]
        if claim["status"].get("capacity", {}).get("storage") == wanted:
            return
        capacity = {"capacity": {"storage": wanted}}
        self._api().patch(f"{_VOLUMES}/{claim['spec']['volumeName']}", {"spec": capacity})
        target = f"/api/v1/namespaces/{claim['metadata']['namespace']}/persistentvolumeclaims/{claim['metadata']['name']}/status"
        self._api().patch(target, {"status": capacity})


class Jobs:
    """Ends the pods of a chatbot's Jobs with a result by `docs/runtime-contract.md`."""

    def __init__(self, api: Callable[[], Api]) -> None:
        self._api = api
        self._initialized: set[str] = set()
        self._revisions: dict[tuple[str, str], str] = {}

    def pod(self, pod: Object) -> None:
        """End a pod that was scheduled."""
        if not pod["spec"].get("nodeName") or pod.get("status", {}).get("phase") != "Pending" or "deletionTimestamp" in pod["metadata"]:
            return
        container = pod["spec"]["containers"][0]
        report = {"postgres-bootstrap": self._bootstrap, "migrate": self._migrate, "backup": self._backup, "backup-verify": self._verify}
        result = report[pod["metadata"]["labels"][COMPONENT]](pod)
        succeeded = result["outcome"] == "Succeeded"
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        ended = {
            "exitCode": 0 if succeeded else 1,
            "reason": "Completed" if succeeded else "Error",
            "startedAt": now,
            "finishedAt": now,
            "message": json.dumps(result),
        }
        status = {
            "phase": "Succeeded" if succeeded else "Failed",
            "startTime": now,
            "containerStatuses": [
                {
                    "name": container["name"],
                    "image": container["image"],
                    "imageID": container["image"],
                    "ready": False,
                    "started": False,
                    "restartCount": 0,
                    "state": {"terminated": ended},
                }
            ],
        }
        target = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}/status"
        _ignore(http.client.NOT_FOUND, lambda: self._api().patch(target, {"status": status}))

    def _bootstrap(self, pod: Object) -> Object:
        base = {"version": 1, "job": "bootstrap"}
        if "fail-bootstrap" in pod["spec"]["containers"][0]["image"]:
            return base | {"outcome": "Failed", "reason": "BootstrapFailed", "message": "simulated failure"}
        claims = [
            volume["persistentVolumeClaim"]["claimName"] for volume in pod["spec"].get("volumes", []) if "persistentVolumeClaim" in volume
        ]
        if not claims:
            return base | {"outcome": "Failed", "reason": "BootstrapFailed", "message": "the pod mounts no claim"}
        claim = self._api().get(f"/api/v1/namespaces/{pod['metadata']['namespace']}/persistentvolumeclaims/{claims[0]}")
        uid = claim["metadata"]["uid"]  # a database lives as long as its volume, and so does its identity
        identifier = str(int(hashlib.sha256(uid.encode()).hexdigest(), 16) % 10**18 + 7 * 10**18)
        reason = "AlreadyInitialized" if uid in self._initialized else "Initialized"
        self._initialized.add(uid)
        return base | {"outcome": "Succeeded", "reason": reason, "message": "simulated", "systemIdentifier": identifier}

    def _migrate(self, pod: Object) -> Object:
        base: Object = {"version": 1, "job": "migrate"}
        image = pod["spec"]["containers"][0]["image"]
        key = (pod["metadata"]["namespace"], pod["metadata"]["labels"].get(_INSTANCE, ""))
        before = self._revisions.get(key, "")
        if "fail-migrate" in image:
            failure = {"outcome": "Failed", "reason": "MigrationFailed", "message": "simulated failure"}
            return base | failure | {"revisionBefore": before, "revision": before}
        found = re.search(r"rev(\d{4})", image)
        after = found[1] if found else "0001"
        self._revisions[key] = after
        reason = "AlreadyCurrent" if before == after else "Migrated"
        return base | {"outcome": "Succeeded", "reason": reason, "message": "simulated", "revisionBefore": before, "revision": after}

    def _backup(self, pod: Object) -> Object:
        base: Object = {"version": 1, "job": "backup"}
        container = pod["spec"]["containers"][0]
        if "fail-backup" in container["image"]:
            return base | {"outcome": "Failed", "reason": "TargetFull", "message": "simulated failure"}
        env = {item["name"]: item.get("value", "") for item in container["env"]}
        archive = {"objectKey": env["BACKUP_OBJECT_KEY"], "sizeBytes": 4096, "sha256": "0" * 64, "keyFingerprint": "0" * 16}
        return base | {"outcome": "Succeeded", "reason": "BackupStored", "message": "simulated", "archive": archive}

    def _verify(self, pod: Object) -> Object:
        base: Object = {"version": 1, "job": "backup-verify"}
        if "fail-verify" in pod["spec"]["containers"][0]["image"]:
            return base | {"outcome": "Failed", "reason": "HashMismatch", "message": "simulated failure"}
        return base | {"outcome": "Succeeded", "reason": "ReadCompletely", "message": "simulated"}


class Connections(threading.local):
    """One connection for each thread that asks."""

    def __init__(self, kubeconfig: Path) -> None:
        self._api = Api(kubeconfig)

    def __call__(self) -> Api:
        """Return the connection of the calling thread."""
        return self._api


def follow(api: Api, pool: ThreadPoolExecutor, path: str, handle: Callable[[Object], None], **query: str) -> None:
    """List, then watch, for ever; begin again whenever the watch ends (after five minutes at the latest) or anything fails."""
    while True:
        try:
            listed = api.get(path, **query)
            for item in listed["items"]:
                pool.submit(_retried, handle, item)
            for event in api.watch(path, listed["metadata"]["resourceVersion"], query):
                if event["type"] == "ERROR":
                    break
                if event["type"] in {"ADDED", "MODIFIED"}:
                    pool.submit(_retried, handle, event["object"])
        except _TROUBLE as error:
            print(f"{path}: {error}; starting over", flush=True)
            time.sleep(_BACK_OFF_SECONDS)


def main(kubeconfig: Path) -> None:
    """Follow claims, volumes and Job pods until the process is ended."""
    connections = Connections(kubeconfig)
    volumes, jobs = Volumes(connections), Jobs(connections)
    followed: tuple[tuple[str, Callable[[Object], None], dict[str, str]], ...] = (
        (_CLAIMS, volumes.claim, {}),
        (_VOLUMES, volumes.volume, {}),
        (_PODS, jobs.pod, {"labelSelector": f"{COMPONENT} in (postgres-bootstrap,migrate,backup,backup-verify)"}),
    )
    pool = ThreadPoolExecutor(_THREADS)
    threads = [
        threading.Thread(target=follow, args=(Api(kubeconfig), pool, path, handle), kwargs=query) for path, handle, query in followed
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _retried(handle: Callable[[Object], None], item: Object) -> None:
    for _ in range(_ATTEMPTS):
        try:
            return handle(item)
        except _TROUBLE as error:
            print(f"{item['metadata']['name']}: {error}; once more", flush=True)
            time.sleep(_BACK_OFF_SECONDS)
    return None  # the next list brings it up again


def _ignore(status: int, call: Callable[[], object]) -> None:
    try:
        call()
    except ApiError as error:
        if error.status != status:
            raise


if __name__ == "__main__":
    main(Path(sys.argv[1]))
