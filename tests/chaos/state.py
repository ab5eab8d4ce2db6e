"""What two runs of the same scenario must have in common: all objects and the status, without what is random or a time."""

import json
import re
from typing import Any, Final

from tests.support import instances
from tests.support.kubeapi import KubeApi, path

State = dict[str, Any]

_METADATA: Final = ("labels", "annotations", "ownerReferences", "finalizers", "name")
_SERVER_MADE: Final = {"clusterIP", "clusterIPs", "volumeName", "nodePort", "healthCheckNodePort"}
_TIMES: Final = {"lastTransitionTime", "startedAt", "nextTime"}
_RANDOM: Final = re.compile(
    r"(secrets-hash|template-hash|inputs-hash|manifest-hash|system-identifier|systemIdentifier|volumeUid|wantedKey|^key)$"
)
"""Hashes over random passwords, and identities of random volumes: that they are there counts, not what they are."""
_SAME: Final = {"AlreadyCurrent": "Migrated"}
"""A migration that was reported twice, or ran again on what an earlier instance left, found its work done."""
_JOB_KEY: Final = re.compile(r"-[0-9a-f]{10}-(\d+)$")
_FOREIGN: Final = re.compile(
    r"^(pv\.kubernetes\.io|volume\.kubernetes\.io|volume\.beta\.kubernetes\.io|batch\.kubernetes\.io|controller-uid)"
)


async def observe(admin: KubeApi, namespace: str, name: str) -> State:
    """Return the comparable state of an instance and all its children."""
    live = await admin.find(path("ChatbotInstance", namespace, name))
    uid = live["metadata"]["uid"] if live else "-"
    found: State = {}
    for key, child in (await instances.children(admin, namespace, name)).items():
        found.setdefault(_named(key), []).append(_clean(child, uid))
    if live and live["metadata"]["generation"] > 1:
        _forget_revisions(found)
    for alike in found.values():
        alike.sort(key=lambda child: json.dumps(child, sort_keys=True))
    if live:
        found["instance"] = _scrub({"metadata": _metadata(live), "spec": live["spec"], "status": live["status"]}, uid)
    return found


def is_orphaned(state: State) -> bool:
    """Return whether objects outlive their instance: the garbage collector removes them, and may need half a minute for a new kind."""
    return "instance" not in state and any(child["metadata"].get("ownerReferences") for alike in state.values() for child in alike)


def _forget_revisions(found: State) -> None:
    """Forget how many rollouts led here: two changes of one edit are one rollout or two, by how fast a migration is. A new one has one."""
    for alike in found.values():
        for child in alike:
            child["metadata"].get("annotations", {}).pop("deployment.kubernetes.io/revision", None)


def difference(left: State, right: State) -> list[str]:
    """Return the paths at which two states differ, for a person."""
    return list(_differences(left, right, ""))


def _differences(left: Any, right: Any, where: str) -> list[str]:
    if isinstance(left, dict) and isinstance(right, dict):
        return [line for key in sorted({*left, *right}) for line in _differences(left.get(key), right.get(key), f"{where}/{key}")]
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        return [line for index, pair in enumerate(zip(left, right, strict=True)) for line in _differences(*pair, f"{where}[{index}]")]
    return [] if left == right else [f"{where}: {left!r} != {right!r}"]


def _named(key: str) -> str:
    return _JOB_KEY.sub(r"-KEY-\1", key)


def _metadata(live: dict[str, Any]) -> dict[str, Any]:
    return {name: live["metadata"][name] for name in _METADATA if name in live["metadata"]}


def _clean(child: dict[str, Any], uid: str) -> Any:
    spec = child.get("spec")
    kept: dict[str, Any] = {"metadata": _metadata(child), "spec": spec}
    if "data" in child:
        kept["data"] = sorted(child["data"])
    return _scrub(kept, uid)


def _scrub(value: Any, uid: str) -> Any:
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if key not in _SERVER_MADE | _TIMES and not _FOREIGN.match(key)}
        return {key: "random" if _RANDOM.search(key) and isinstance(item, str) else _scrub(item, uid) for key, item in kept.items()}
    if isinstance(value, list):
        return [_scrub(item, uid) for item in value]
    if isinstance(value, str):
        value = _SAME.get(value, value)
        return _JOB_KEY.sub(r"-KEY-\1", value.replace(uid, "UID"))
    return value
