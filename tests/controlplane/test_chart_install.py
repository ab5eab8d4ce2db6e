"""Both Helms install, upgrade, roll back and uninstall the chart for real; chatbots and their kind stay. Needs the simulated node.

Pods get ready without running here, the pre-delete Job too: what that Job does is a matter of its own tests and of e2e.
"""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from chatbot_operator.constants import API_VERSION
from testbed.api import Api, ApiError
from tests.support.cluster import Cluster
from tests.support.helm import CHART, PROGRAMS, Helm
from tests.support.kubeapi import CLUSTER_RESOURCES, RESOURCES, path

CRD = path("CustomResourceDefinition", name="chatbotinstances.chatbotops.io")


@pytest.fixture(params=PROGRAMS)
def helm(request: pytest.FixtureRequest, cluster: Cluster, crds: list[str]) -> Helm:
    # The CRD is shared with every other test of the session, so the chart leaves it alone here.
    assert crds
    return Helm.of(cluster, request.param)


@pytest.fixture
def api(cluster: Cluster) -> Api:
    return Api(cluster.admin)


@pytest.fixture
def release(helm: Helm, namespace: str) -> Iterator[str]:
    name = f"r{uuid.uuid4().hex[:6]}"
    yield name
    helm.run("uninstall", name, f"--namespace={namespace}", "--no-hooks", "--ignore-not-found")


def install(helm: Helm, release: str, namespace: str, *options: str) -> None:
    helm.run("install", release, str(CHART), f"--namespace={namespace}", "--set=crds.install=false", "--wait", "--timeout=2m", *options)


def names_of(api: Api, release: str, namespace: str) -> set[str]:
    """Return `Kind name` of every object that mentions the release, in the namespace and cluster-wide."""
    found = set()
    for kind in (*RESOURCES, *CLUSTER_RESOURCES):
        if kind in ("Event", "Namespace", "Node"):
            continue
        for item in api.get(path(kind, namespace if kind in RESOURCES else None))["items"]:
            name: str = item["metadata"]["name"]
            if release in name:
                found.add(f"{kind} {name}")
    return found


def test_install_upgrade_rollback_uninstall(helm: Helm, api: Api, namespace: str, release: str) -> None:
    name = f"{release}-chatbot-operator"
    install(helm, release, namespace)
    deployment = api.get(path("Deployment", namespace, name))
    assert deployment["status"]["readyReplicas"] == 2
    bot = {
        "apiVersion": API_VERSION,
        "kind": "ChatbotInstance",
        "metadata": {"name": "bot", "finalizers": ["example.com/held-by-someone-else"]},
        "spec": {"release": {"version": "1", "image": "bot@sha256:" + "0" * 64}},
    }
    uid = api.create(path("ChatbotInstance", namespace), bot)["metadata"]["uid"]

    upgrade = ("upgrade", release, str(CHART), f"--namespace={namespace}", "--set=crds.install=false", "--wait", "--timeout=2m")
    helm.run(*upgrade, "--set=operator.logLevel=debug,replicas=3")
    env = variables(api.get(path("Deployment", namespace, name)))
    assert env["CHATBOT_LOG_LEVEL"] == "debug"
    helm.run("rollback", release, "1", f"--namespace={namespace}", "--wait", "--timeout=2m")
    assert variables(api.get(path("Deployment", namespace, name)))["CHATBOT_LOG_LEVEL"] == "info"
    assert helm.status(release, namespace) == "deployed"

    helm.run("uninstall", release, f"--namespace={namespace}", "--wait", "--timeout=2m")
    assert names_of(api, release, namespace) == set()
    assert api.get(path("ChatbotInstance", namespace, "bot"))["metadata"]["uid"] == uid

    install(helm, release, namespace)
    assert api.get(path("ChatbotInstance", namespace, "bot"))["metadata"]["uid"] == uid
    api.patch(path("ChatbotInstance", namespace, "bot"), {"metadata": {"finalizers": None}})


def variables(deployment: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}


def may(api: Api, user: str, verb: str, resource: str, namespace: str = "", group: str = "", subresource: str = "") -> bool:
    """Ask the API server whether a user may do something."""
    attributes = {"verb": verb, "resource": resource, "namespace": namespace, "group": group, "subresource": subresource}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "groups": ["system:serviceaccounts", "system:authenticated"], "resourceAttributes": attributes},
    }
    allowed: bool = api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)["status"]["allowed"]
    return allowed


def test_a_watch_list_is_the_limit_of_the_operators_rights(helm: Helm, api: Api, namespace: str, release: str) -> None:
    install(helm, release, namespace, f"--set=watchNamespaces={{{namespace}}}")
    user = f"system:serviceaccount:{namespace}:{release}-chatbot-operator"
    for where, expected in ((namespace, True), ("default", False), ("kube-system", False)):
        assert may(api, user, "list", "secrets", where) is expected, where
        assert may(api, user, "create", "deployments", where, "apps") is expected, where
    for where in (namespace, "default"):
        assert may(api, user, "patch", "chatbotinstances", where, "chatbotops.io", "status")
        assert not may(api, user, "delete", "chatbotinstances", where, "chatbotops.io")
        assert not may(api, user, "create", "pods", where, subresource="exec")
        assert not may(api, user, "create", "roles", where, "rbac.authorization.k8s.io")
    assert not may(api, user, "create", "leases", "default", "coordination.k8s.io")


def test_installing_the_crd_with_the_chart_needs_no_second_step(helm: Helm, api: Api, namespace: str, release: str) -> None:
    # Server side and dry: the CRD is shared with other tests, but Helm and the API server check everything.
    done = helm.run(
        "install", release, str(CHART), f"--namespace={namespace}", "--dry-run=server", "--set=crds.keep=true", "--take-ownership"
    )
    assert "helm.sh/resource-policy: keep" in done.stdout
    assert "leaves every chatbot running" in done.stdout
    with pytest.raises(ApiError):
        api.get(path("Deployment", namespace, f"{release}-chatbot-operator"))
    assert api.exists(CRD)


def test_an_uninstall_that_would_delete_chatbots_is_announced(helm: Helm, namespace: str, release: str) -> None:
    options = (f"--namespace={namespace}", "--dry-run=client", "--take-ownership", "--set=crds.keep=false")
    assert "WARNING: crds.keep is false" in helm.run("install", release, str(CHART), *options).stdout
