"""What a failing test leaves behind: custom resources, children, Events, operator logs and the tail of the audit log in one folder."""

import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from testbed.api import Api, ApiError
from tests.support.audit import AuditLog
from tests.support.cluster import ROOT, Cluster
from tests.support.kubeapi import RESOURCES, path

FOLDER: Final = ROOT / "artifacts"


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
        except (ApiError, OSError) as error:
            (folder / f"{kind}.error").write_text(str(error))
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
