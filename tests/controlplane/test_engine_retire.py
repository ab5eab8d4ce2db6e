"""Taking the operator out of service before it is uninstalled: nobody leads, no instance is held, and no chatbot is touched."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from chatbot_operator.constants import FINALIZER
from tests.support import instances
from tests.support.cluster import ROOT, Cluster
from tests.support.fixtures import OPERATOR_NAME, OPERATOR_NAMESPACE, StartOperator
from tests.support.instances import manifest, wait_ready
from tests.support.kubeapi import KubeApi, path

ALL = ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "ServiceAccount")
Retire = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
async def retire(cluster: Cluster, operator_account: object, admin: KubeApi, tmp_path: Path) -> AsyncIterator[Retire]:
    """Run the command with exactly the rights that the chart gives to the pre-delete Job."""
    from tests.support.fixtures import render_chart

    name = f"{OPERATOR_NAME}-retire"
    hooks = [made for made in render_chart(cluster) if made["metadata"]["name"] == name and made["kind"] in ALL]
    for made in hooks:
        await admin.apply(made, OPERATOR_NAMESPACE)
    kubeconfig = cluster.account_kubeconfig(OPERATOR_NAMESPACE, name, tmp_path / "retire.kubeconfig")

    def run(timeout_seconds: float = 30, watched: str = "") -> subprocess.CompletedProcess[str]:
        options = [f"--namespace={OPERATOR_NAMESPACE}", f"--deployment={OPERATOR_NAME}", f"--lease={OPERATOR_NAME}"]
        options.append(f"--watch-namespaces={watched}")
        command = [sys.executable, "-m", "chatbot_operator.cli.retire", *options, f"--timeout-seconds={timeout_seconds}"]
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "PYTHONPATH": str(ROOT / "operator")}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    yield run
    for made in hooks:
        if made["kind"] in ("ClusterRole", "ClusterRoleBinding"):
            await admin.delete(path(made["kind"], name=name))


def _deployment() -> dict[str, Any]:
    """Return a stand-in for the operator's Deployment whose pods can't be made, so that only its number counts."""
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "x", "image": "never-ready"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": OPERATOR_NAME, "namespace": OPERATOR_NAMESPACE},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": template},
    }


async def test_retire_releases_every_instance_deletes_none_and_may_be_repeated(
    admin: KubeApi, namespace: str, start_operator: StartOperator, retire: Retire
) -> None:
    operator = start_operator()
    await admin.create(manifest(namespace, deletionPolicy="Delete"))
    before = await wait_ready(admin, namespace)
    await admin.patch(path("ChatbotInstance", namespace, "shop"), {"metadata": {"finalizers": ["team.example/keep", FINALIZER]}})
    children = await instances.children(admin, namespace)
    await admin.apply(_deployment())
    try:
        operator.terminate()
        for _ in range(2):
            ended = retire()
            assert ended.returncode == 0, ended.stdout + ended.stderr
        deployment = await admin.get(path("Deployment", OPERATOR_NAMESPACE, OPERATOR_NAME))
        leases = await admin.list("Lease", OPERATOR_NAMESPACE)
    finally:
        await admin.delete(path("Deployment", OPERATOR_NAMESPACE, OPERATOR_NAME))
    assert deployment["spec"]["replicas"] == 0
    assert leases == []
    live = await admin.get(path("ChatbotInstance", namespace, "shop"))
    assert live["metadata"]["uid"] == before["metadata"]["uid"]
    assert live["metadata"]["finalizers"] == ["team.example/keep"]
    assert set(await instances.children(admin, namespace)) == set(children)
    await admin.patch(path("ChatbotInstance", namespace, "shop"), {"metadata": {"finalizers": None}})


async def test_retire_does_not_release_while_somebody_leads(
    admin: KubeApi, namespace: str, start_operator: StartOperator, retire: Retire
) -> None:
    operator = start_operator()
    await admin.create(manifest(namespace, deletionPolicy="Delete"))
    await wait_ready(admin, namespace)
    ended = retire(timeout_seconds=5)
    assert ended.returncode == 1
    assert "timed out waiting for the Lease" in ended.stdout
    live = await admin.get(path("ChatbotInstance", namespace, "shop"))
    assert live["metadata"]["finalizers"] == [FINALIZER]
    assert operator.running


async def test_retire_does_not_wait_for_a_leader_that_was_killed(
    admin: KubeApi, namespace: str, start_operator: StartOperator, retire: Retire
) -> None:
    operator = start_operator()
    await admin.create(manifest(namespace, deletionPolicy="Delete"))
    await wait_ready(admin, namespace)
    operator.kill()
    ended = retire(timeout_seconds=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "no longer renews" in ended.stdout
    live = await admin.get(path("ChatbotInstance", namespace, "shop"))
    assert "finalizers" not in live["metadata"]


async def test_retire_leaves_instances_of_another_operators_namespaces_alone(
    admin: KubeApi, namespace: str, start_operator: StartOperator, retire: Retire
) -> None:
    operator = start_operator()
    await admin.create(manifest(namespace, deletionPolicy="Delete"))
    await wait_ready(admin, namespace)
    operator.terminate()
    ended = retire(watched="kube-public,default")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    live = await admin.get(path("ChatbotInstance", namespace, "shop"))
    assert live["metadata"]["finalizers"] == [FINALIZER]
