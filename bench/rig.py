"""A fresh plane with the chart's rights, namespaces to spread instances over, and what can be read about a process from outside."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from chatbot_operator.constants import API_VERSION, GROUP
from testbed.api import Api
from tests.support.audit import AuditLog
from tests.support.cluster import ROOT, Cluster, find, fresh_settings, run_testbed
from tests.support.helm import Helm, is_hook
from tests.support.kubeapi import KubeApi, path, path_of
from tests.support.operatorprocess import OperatorProcess

NAMESPACE = "chatbot-operator"
IN_FLIGHT = 32
NAMESPACES = tuple(f"bench-{number}" for number in range(10))
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Rig:
    """One plane for one run."""

    cluster: Cluster
    api: KubeApi
    audit: AuditLog
    kubeconfig: Path
    user: str
    directory: Path

    def operator(self, name: str = "operator", **settings: str) -> OperatorProcess:
        """Return an operator process, not yet started, with the defaults of a production installation."""
        defaults = {"CHATBOT_LEASE_SECONDS": "12", "CHATBOT_LOG_LEVEL": "info", "POD_NAME": name}
        return OperatorProcess(self.kubeconfig, self.directory / f"{name}.log", NAMESPACE, "", {**defaults, **settings})


@contextlib.asynccontextmanager
async def fresh_rig(directory: Path, *, cluster_admin: bool = False) -> AsyncIterator[Rig]:
    """Start a plane with simulated nodes, CRDs, rights and namespaces; stop it at the end.

    Args:
        directory: Where logs go.
        cluster_admin: Let the account do everything, for a peer that has no chart.
    """
    with fresh_settings() as settings:
        await asyncio.to_thread(run_testbed, settings, "up", "--sim", "10")
        try:
            cluster = find(settings.directory)
            if cluster is None:
                raise RuntimeError(f"no API server although `up` said so; see {settings.log}")
            kubeconfig = await asyncio.to_thread(_prepare, cluster, directory, cluster_admin)
            user = f"system:serviceaccount:{NAMESPACE}:chatbot-operator"
            async with KubeApi(cluster.admin) as api:
                yield Rig(cluster, api, AuditLog(settings.audit_log), kubeconfig, user, directory)
        finally:
            await asyncio.to_thread(run_testbed, settings, "down")


def _prepare(cluster: Cluster, directory: Path, cluster_admin: bool) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    api = Api(cluster.admin)
    for name in (NAMESPACE, *NAMESPACES):
        api.create(path("Namespace"), {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    for file in sorted((ROOT / "crds").glob("*.yaml")):
        crd = yaml.safe_load(file.read_text())
        api.apply(path_of(crd), crd)
    rights = {"ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}
    for manifest in Helm.of(cluster, "helm").template(release="chatbot-operator", namespace=NAMESPACE):
        if manifest["kind"] in rights and not is_hook(manifest):
            api.apply(path_of(manifest, NAMESPACE), manifest)
    if cluster_admin:
        subject = {"kind": "ServiceAccount", "name": "chatbot-operator", "namespace": NAMESPACE}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
        metadata = {"name": "peer"}
        binding = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": metadata}
        api.create(path("ClusterRoleBinding"), {**binding, "roleRef": role, "subjects": [subject]})
    deadline = time.monotonic() + 30
    while not _established(api):
        if time.monotonic() > deadline:
            raise RuntimeError("the CRD was not established within 30 s")
        time.sleep(0.1)
    return cluster.account_kubeconfig(NAMESPACE, "chatbot-operator", directory / "operator.kubeconfig")


def _established(api: Api) -> bool:
    crds = [crd for crd in api.get(path("CustomResourceDefinition"))["items"] if crd["spec"]["group"] == GROUP]
    conditions = [{each["type"]: each["status"] for each in crd.get("status", {}).get("conditions", [])} for crd in crds]
    return bool(crds) and all(found.get("Established") == "True" for found in conditions)


def instance(name: str, namespace: str) -> dict[str, Any]:
    """Return the instance that every benchmark uses: the defaults, and an image that nothing pulls."""
    release = {"version": "1.0.0", "image": "registry.example.com/chatbot@sha256:" + "0" * 64}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": API_VERSION, "kind": "ChatbotInstance", "metadata": metadata, "spec": {"release": release}}


async def in_flight(jobs: Iterable[Callable[[], Awaitable[object]]], limit: int = IN_FLIGHT) -> None:
    """Run jobs with at most `limit` at a time, in order of start."""
    queue = iter(list(jobs))

    async def worker() -> None:
        for job in queue:
            await job()

    async with asyncio.TaskGroup() as group:
        for _ in range(limit):
            group.create_task(worker())


@dataclass(frozen=True)
class Usage:
    """What a process has used: CPU in seconds since its start, memory in MiB."""

    cpu: float
    rss: float
    pss: float


def usage(pid: int) -> Usage:
    """Read the counters of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    memory = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    size = {name: int(memory[name].split()[0]) / 1024 for name in ("Rss", "Pss")}
    return Usage((int(fields[11]) + int(fields[12])) / _TICKS, size["Rss"], size["Pss"])


def quantile(values: list[float], share: float) -> float:
    """Return a quantile by nearest rank; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
