"""pytest fixtures around a real control plane; a layer's conftest.py imports what it needs from here."""

import contextlib
import re
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from testbed.api import Api, ApiError
from testbed.kubeconfig import write_token
from testbed.tools import binary
from tests.support import artefacts
from tests.support.audit import AuditLog
from tests.support.cluster import ROOT, Cluster, running_cluster
from tests.support.faultproxy import FaultProxy
from tests.support.kubeapi import KubeApi, path, path_of
from tests.support.operatorprocess import OperatorProcess

OPERATOR_NAMESPACE: Final = "chatbot-operator"
OPERATOR_NAME: Final = "chatbot-operator"
OPERATOR_USER: Final = f"system:serviceaccount:{OPERATOR_NAMESPACE}:{OPERATOR_NAME}"
FAILED: Final = pytest.StashKey[bool]()
"""Stash key of a test: set when any of its phases failed."""

StartOperator = Callable[..., OperatorProcess]


@dataclass(frozen=True)
class OperatorAccount:
    """The ServiceAccount of the chart, with exactly the chart's rights."""

    namespace: str
    name: str
    user: str
    kubeconfig: Path


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Remember whether any phase of a test failed, so that its fixtures can leave artefacts."""
    outcome: Any = yield
    if outcome.get_result().failed:
        item.stash[FAILED] = True


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A control plane with one simulated node for the whole session (or the one that runs in `TESTBED_DIR`)."""
    with running_cluster("--sim", "1") as running:
        yield running


@pytest.fixture(scope="session")
def crds(cluster: Cluster) -> list[str]:
    """Apply every file of `crds/` and wait until the API server serves them; returns their names."""
    api = Api(cluster.admin)
    names = []
    for file in sorted((ROOT / "crds").glob("*.yaml")):
        manifest = yaml.safe_load(file.read_text())
        api.apply(path_of(manifest), manifest)
        names.append(manifest["metadata"]["name"])
    for name in names:
        _wait_served(api, name)
    return names


@pytest.fixture(scope="session")
def operator_account(cluster: Cluster, crds: list[str], tmp_path_factory: pytest.TempPathFactory) -> OperatorAccount:
    """Install the chart's ServiceAccount and RBAC as Helm renders them, and get a token for it."""
    api = Api(cluster.admin)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATOR_NAMESPACE}}
    api.apply(path_of(namespace), namespace)
    for manifest in render_chart(cluster):
        if manifest["kind"] in {"ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"} and not _is_hook(manifest):
            api.apply(path_of(manifest, OPERATOR_NAMESPACE), manifest)
    file = tmp_path_factory.mktemp("account") / "operator.kubeconfig"
    cluster.account_kubeconfig(OPERATOR_NAMESPACE, OPERATOR_NAME, file)
    return OperatorAccount(OPERATOR_NAMESPACE, OPERATOR_NAME, OPERATOR_USER, file)


@pytest.fixture
async def admin(cluster: Cluster) -> AsyncIterator[KubeApi]:
    """The administrator's client: for what a test does, never for what it tests."""
    async with KubeApi(cluster.admin) as api:
        yield api


@pytest.fixture
async def as_operator(operator_account: OperatorAccount) -> AsyncIterator[KubeApi]:
    """A client with the operator's own rights."""
    async with KubeApi(operator_account.kubeconfig) as api:
        yield api


@pytest.fixture
def fault_proxy(cluster: Cluster, tmp_path: Path) -> Iterator[FaultProxy]:
    """A proxy that injects faults; give the kubeconfig of `through_proxy` to an operator."""
    with FaultProxy(cluster.server, cluster.ca_file, tmp_path / "faultproxy").running() as proxy:
        yield proxy


@pytest.fixture
def through_proxy(cluster: Cluster, operator_account: OperatorAccount, fault_proxy: FaultProxy, tmp_path: Path) -> Path:
    """The operator's kubeconfig, with the fault proxy in between."""
    token = cluster.account_token(operator_account.namespace, operator_account.name)
    return write_token(tmp_path / "proxied.kubeconfig", fault_proxy.url, fault_proxy.ca_file, token, operator_account.namespace)


@pytest.fixture
def audit(cluster: Cluster) -> AuditLog:
    """The audit log, marked at the start of the test."""
    return AuditLog(cluster.settings.audit_log)


@pytest.fixture
def operator_logs() -> list[Path]:
    """Log files that go into the artefacts of a failed test; `start_operator` adds its own."""
    return []


@pytest.fixture
def namespace(request: pytest.FixtureRequest, cluster: Cluster, operator_logs: list[Path]) -> Iterator[str]:
    """A namespace of the test's own in which Pod Security `restricted` is enforced."""
    api = Api(cluster.admin)
    stem = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:40].strip("-")
    name = f"{stem}-{uuid.uuid4().hex[:6]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/enforce-version": "latest"}
    api.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    yield name
    if request.node.stash.get(FAILED, False):
        artefacts.collect(cluster, name, OPERATOR_USER, operator_logs, artefacts.folder_of(request.node.nodeid))
    _delete_namespace(Api(cluster.admin), name)


@pytest.fixture
def start_operator(
    operator_account: OperatorAccount, cluster: Cluster, namespace: str, operator_logs: list[Path], tmp_path: Path
) -> Iterator[StartOperator]:
    """A function that starts an operator process; every one is killed at the end of the test.

    Its arguments: `settings` (environment that wins), `kubeconfig` (such as one through the fault proxy), `wait` (for `/readyz`),
    `namespaces` (comma list to watch; the test's own by default).
    """
    started: list[OperatorProcess] = []
    Api(cluster.admin).delete(path("Lease", operator_account.namespace, operator_account.name))

    def start(
        *, settings: dict[str, str] | None = None, kubeconfig: Path | None = None, wait: bool = True, namespaces: str | None = None
    ) -> OperatorProcess:
        watched = namespace if namespaces is None else namespaces
        log = tmp_path / f"operator-{len(started) + 1}.log"
        operator = OperatorProcess(kubeconfig or operator_account.kubeconfig, log, operator_account.namespace, watched, settings)
        started.append(operator)
        operator_logs.append(log)
        operator.start()
        if wait:
            operator.wait_probe()
        return operator

    yield start
    for operator in started:
        if operator.running:
            operator.kill()


def render_chart(cluster: Cluster, *options: str) -> list[dict[str, Any]]:
    """Return the manifests of the chart as `helm template` renders them."""
    helm = binary(cluster.settings, "helm")
    command = [str(helm), "template", OPERATOR_NAME, str(ROOT / "helm" / "chatbot-operator"), "--namespace", OPERATOR_NAMESPACE, *options]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return [manifest for manifest in yaml.safe_load_all(result.stdout) if manifest]


def _is_hook(manifest: dict[str, Any]) -> bool:
    return "helm.sh/hook" in manifest["metadata"].get("annotations", {})


def _wait_served(api: Api, name: str) -> None:
    """Wait until a list of the kind works: for a moment after `Established` the answer is still 404 or 429."""
    spec = api.get(path("CustomResourceDefinition", name=name))["spec"]
    version = next(each["name"] for each in spec["versions"] if each["served"])
    deadline = time.monotonic() + 30
    while not _lists(api, f"/apis/{spec['group']}/{version}/{spec['names']['plural']}"):
        assert time.monotonic() < deadline, f"{name} was not served within 30 s"
        time.sleep(0.05)


def _lists(api: Api, target: str) -> bool:
    try:
        api.get(target)
    except ApiError:
        return False
    return True


def _delete_namespace(api: Api, name: str) -> None:
    """Delete a namespace in the background; finalizers of an operator that is gone would hold it for ever."""
    with contextlib.suppress(ApiError):
        for item in api.get(path("ChatbotInstance", name))["items"]:
            if item["metadata"].get("finalizers"):
                api.patch(path("ChatbotInstance", name, item["metadata"]["name"]), {"metadata": {"finalizers": None}})
    api.delete(path("Namespace", name=name))
