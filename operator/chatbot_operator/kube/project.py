"""Projects a live object onto the little that decisions need (`ChildState`, under 1 KiB); the object itself is dropped.

`details` by kind; a key is absent where there is nothing to say:

- Deployment, StatefulSet: `template` (fingerprint of our part of the pod template), `replicas`, `replicasManagers`
  (comma list of other managers that own `spec.replicas`), `revision`, `inputsHash` and `templateHash` (our annotations).
- PersistentVolumeClaim: `phase`, `volume`, `requested`, `capacity`, `storageClass`, `systemIdentifier`, `resize` (a condition's type).
- Pod: `owner` (`Kind/name`), `restarts`, `node`, `image`, `imageID`; of an ended one of a Job also `result` and `finishedAt`.
- Job: `startTime`, `completionTime`; of an ended one also `ended` (the reason of its last condition) and `result` (`pending`, `missing`,
  `unreadable`, `read`), both joined in by the store.
- Service: `clusterIP`.
- Secret: `systemIdentifier`.
- HorizontalPodAutoscaler: `currentReplicas`, `desiredReplicas`.
- Any kind that is being deleted: `deletedAt`, and `finalizers` (comma list) that hold it.

Of the labels only those stay that decisions read (`KEPT_LABELS`): the rest would be most of a child's memory, and drift in labels of ours
shows in the fingerprint.
"""

import sys
from collections.abc import Mapping
from typing import Any, Final

from chatbot_operator.constants import (
    ANNOTATION_INPUTS_HASH,
    ANNOTATION_SYSTEM_IDENTIFIER,
    ANNOTATION_TEMPLATE_HASH,
    LABEL_BACKUP,
    LABEL_COMPONENT,
    LABEL_INSTANCE,
    LABEL_INSTANCE_UID,
    LABEL_MANIFEST_HASH,
    LABEL_NUMBER,
)
from chatbot_operator.kube.health import is_true, observe_health, short
from chatbot_operator.model.fingerprint import fingerprint, other_managers, project_owned, template_fingerprint
from chatbot_operator.model.objects import ChildState, Health, ObjectKey

Live = Mapping[str, Any]

KEPT_LABELS: Final = (LABEL_COMPONENT, LABEL_NUMBER, LABEL_BACKUP, LABEL_MANIFEST_HASH)
_NOTHING: Final[Mapping[str, str]] = {}


class Projector:
    """Makes child states; equal parts (labels, health) of different children share one object in memory."""

    def __init__(self) -> None:
        self._labels: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}
        self._health: dict[Health, Health] = {}

    def project(self, live: Live) -> ChildState:
        """Return the child state of a live object that carries `kind`."""
        metadata = live["metadata"]
        labels = metadata.get("labels") or {}
        return ChildState(
            key=key_of_live(live),
            uid=metadata["uid"],
            resource_version=metadata["resourceVersion"],
            fingerprint=_fingerprint(live),
            instance=sys.intern(labels.get(LABEL_INSTANCE, "")),
            instance_uid=sys.intern(labels.get(LABEL_INSTANCE_UID, "")),
            owner_uid=sys.intern(_controller_uid(metadata)),
            deleting="deletionTimestamp" in metadata,
            health=self._share_health(observe_health(live)),
            labels=self._share_labels(labels),
            details=_details(live) or _NOTHING,
        )

    def _share_health(self, health: Health) -> Health:
        if len(self._health) > 1024:
            self._health.clear()
        return self._health.setdefault(health, health)

    def _share_labels(self, labels: Mapping[str, str]) -> Mapping[str, str]:
        """Return one dict for equal sets of kept labels. A hash unique to an object would only fill the table, hence its bound."""
        key = tuple((name, sys.intern(labels[name])) for name in KEPT_LABELS if name in labels)
        if not key:
            return _NOTHING
        if len(self._labels) > 1024:
            self._labels.clear()
        found = self._labels.get(key)
        if found is None:
            found = self._labels[key] = dict(key)
        return found


def key_of_live(live: Live) -> ObjectKey:
    """Return the identity of a live object, with shared strings."""
    metadata = live["metadata"]
    return ObjectKey(sys.intern(live["kind"]), sys.intern(metadata.get("namespace", "")), metadata["name"])


def _fingerprint(live: Live) -> str:
    return "" if live["kind"] == "Pod" else fingerprint(project_owned(live))


def _controller_uid(metadata: Mapping[str, Any]) -> str:
    for owner in metadata.get("ownerReferences") or ():
        if owner.get("controller"):
            return str(owner["uid"])
    return ""


def _details(live: Live) -> dict[str, str]:
    look = _BY_KIND.get(live["kind"])
    found = (look(live) if look else {}) | _deletion(live["metadata"])
    return {name: value for name, value in found.items() if value}


def _deletion(metadata: Mapping[str, Any]) -> dict[str, str]:
    if "deletionTimestamp" not in metadata:
        return {}
    return {"deletedAt": str(metadata["deletionTimestamp"]), "finalizers": ",".join(metadata.get("finalizers") or ())}


def _workload(live: Live) -> dict[str, str]:
    return {
        "template": template_fingerprint(project_owned(live)),
        "replicas": str(live.get("spec", {}).get("replicas", "")),
        "replicasManagers": ",".join(other_managers(live, ("spec", "replicas"))),
        "revision": str(live.get("status", {}).get("updateRevision", "")),
        "inputsHash": _annotation(live, ANNOTATION_INPUTS_HASH),
        "templateHash": _annotation(live, ANNOTATION_TEMPLATE_HASH),
    }


def _annotation(live: Live, name: str) -> str:
    return str((live["metadata"].get("annotations") or {}).get(name, ""))


def _secret(live: Live) -> dict[str, str]:
    return {"systemIdentifier": _annotation(live, ANNOTATION_SYSTEM_IDENTIFIER)}


def _claim(live: Live) -> dict[str, str]:
    spec, status = live.get("spec", {}), live.get("status", {})
    resize = [kind for kind in ("Resizing", "FileSystemResizePending", "ControllerResizeError") if is_true(live, kind)]
    return {
        "phase": status.get("phase", ""),
        "volume": spec.get("volumeName", ""),
        "requested": spec.get("resources", {}).get("requests", {}).get("storage", ""),
        "capacity": status.get("capacity", {}).get("storage", ""),
        "storageClass": spec.get("storageClassName", ""),
        "systemIdentifier": live["metadata"].get("annotations", {}).get(ANNOTATION_SYSTEM_IDENTIFIER, ""),
        "resize": ",".join(resize),
    }


def _pod(live: Live) -> dict[str, str]:
    owners = live["metadata"].get("ownerReferences") or ()
    statuses = live.get("status", {}).get("containerStatuses") or ()
    containers = live.get("spec", {}).get("containers") or ()
    return {
        "owner": "".join(f"{owner['kind']}/{owner['name']}" for owner in owners if owner.get("controller")),
        "restarts": str(sum(status.get("restartCount", 0) for status in statuses) or ""),
        "node": sys.intern(live.get("spec", {}).get("nodeName", "")),
        "image": sys.intern(short(containers[0].get("image"))) if containers else "",
        "imageID": sys.intern(short(statuses[0].get("imageID"))) if statuses else "",
    }


def _job(live: Live) -> dict[str, str]:
    status = live.get("status", {})
    return {"startTime": status.get("startTime", ""), "completionTime": status.get("completionTime", "")}


def _service(live: Live) -> dict[str, str]:
    return {"clusterIP": live.get("spec", {}).get("clusterIP", "")}


def _autoscaler(live: Live) -> dict[str, str]:
    status = live.get("status", {})
    return {name: str(status.get(name, "")) for name in ("currentReplicas", "desiredReplicas")}


_BY_KIND: Final = {
    "Deployment": _workload,
    "StatefulSet": _workload,
    "PersistentVolumeClaim": _claim,
    "Pod": _pod,
    "Job": _job,
    "Service": _service,
    "Secret": _secret,
    "HorizontalPodAutoscaler": _autoscaler,
}
