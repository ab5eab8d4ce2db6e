"""What a failing test leaves behind: custom resources, children, Events, the logs of operator and pods, the tail of the audit log."""

import json
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from testbed.api import Api, ApiError
from testbed.errors import MISHAPS, describe
from tests.support.audit import AuditLog
from tests.support.cluster import ROOT, Cluster
from tests.support.kubeapi import RESOURCES, path

FOLDER: Final = ROOT / "artifacts"
_LINES: Final = 2000
"""Last lines of each log."""


def folder_of(test: str) -> Path:
    """Return the folder of a test, named so that it can be found by the test's name."""
    return FOLDER / re.sub(r"[^A-Za-z0-9_.-]+", "_", test).strip("_")[-120:]


def collect(cluster: Cluster, namespace: str, user: str, logs: Iterable[Path], folder: Path) -> None:
    """Write everything known about a namespace into a fresh folder; what can't be read is noted in it instead of raised."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    api = Api(cluster.admin)
    for kind in RESOURCES:
        try:
            items = api.get(path(kind, namespace))["items"]
        except (ApiError, *MISHAPS) as error:
            (folder / f"{kind}.error").write_text(describe(error))
            continue
        if kind == "Secret":
            for item in items:
                item["data"] = dict.fromkeys(item.get("data") or {}, "(removed)")
        if items:
            (folder / f"{kind}.json").write_text(json.dumps(items, indent=1))
    for log in logs:
        if log.exists():
            shutil.copy(log, folder / log.name)
    lines = AuditLog(cluster.settings.audit_log).tail(user)
    (folder / "audit.jsonl").write_text("\n".join(lines))
    if cluster.mode == "node":  # simulated pods run nothing that could log
        collect_logs(cluster, namespace, folder)


def collect_logs(cluster: Cluster, namespace: str, folder: Path) -> None:
    """Write the log of every container of a namespace, the one before its last restart too; what can't be read is noted instead."""
    target = folder / "logs" / namespace
    target.mkdir(parents=True)
    api = Api(cluster.admin)
    try:
        pods = api.get(path("Pod", namespace))["items"]
    except (ApiError, *MISHAPS) as error:
        (target / "pods.error").write_text(describe(error))
        return
    for pod in pods:
        name = pod["metadata"]["name"]
        for container, run in _runs(pod):
            query = {"container": container, "tailLines": str(_LINES)} | ({"previous": "true"} if run else {})
            try:
                text = api.text(f"{path('Pod', namespace, name)}/log", **query)
            except (ApiError, *MISHAPS) as error:
                text = describe(error)
            (target / f"{name}.{container}{run}.log").write_text(text)


def _runs(pod: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield container and `.previous` or nothing for each run of a pod's containers whose log is kept."""
    status = pod.get("status", {})
    states = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    restarted = {state["name"] for state in states if state["restartCount"]}
    for container in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]:
        yield container["name"], ""
        if container["name"] in restarted:
            yield container["name"], ".previous"
