"""The operator comes and goes; chatbots stay. Uninstall, reinstall, another version and back: no pod restarts."""

import shutil
from pathlib import Path

import pytest

from testbed.demo import CHART, OPERATOR, Demo
from tests.support.helm import Helm
from tests.support.kubeapi import path
from tests.support.site import Site

KINDS = (
    "Deployment", "Pod", "Service", "ServiceAccount", "Job", "PodDisruptionBudget", "Role", "RoleBinding", "Lease", "Secret", "ConfigMap",
)  # fmt: skip
WIDE = ("ClusterRole", "ClusterRoleBinding")
OF_EVERY_NAMESPACE = {"ServiceAccount": ["default"], "ConfigMap": ["kube-root-ca.crt"]}
"""What Kubernetes itself puts into each namespace."""


@pytest.fixture
def helm(site: Site) -> Helm:
    """The Helm that the demo uses."""
    return Helm.of(site.cluster, "helm")


@pytest.fixture
def tag(site: Site) -> str:
    """Tag of the operator's image that runs now."""
    deployment = site.api.get(path("Deployment", OPERATOR, OPERATOR))
    image: str = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    return image.rpartition(":")[2]


def names(site: Site, collection: str) -> list[str]:
    """Return the names of all objects of a collection."""
    return [each["metadata"]["name"] for each in site.api.get(collection)["items"]]


def test_helm_test_passes(helm: Helm) -> None:
    assert "Succeeded" in helm.run("test", OPERATOR, f"--namespace={OPERATOR}").stdout


def test_a_killed_operator_is_replaced_and_nothing_restarts(site: Site) -> None:
    pods = site.pods()
    lease = path("Lease", OPERATOR, OPERATOR)
    holder = site.api.get(lease)["spec"]["holderIdentity"]
    leader = next(each["metadata"]["name"] for each in site.api.get(path("Pod", OPERATOR))["items"] if each["metadata"]["uid"] == holder)
    site.kubectl("delete", "pod", "-n", OPERATOR, leader, "--grace-period=0", "--force")
    site.wait("another leader", lambda: site.api.get(lease)["spec"]["holderIdentity"] not in ("", holder), 40)
    site.kubectl("delete", "-n", site.namespace, f"service/{site.name}-app")
    site.wait("the new leader to repair", lambda: site.api.exists(path("Service", site.namespace, f"{site.name}-app")), 40)
    site.wait_ready()
    assert site.pods() == pods


def test_chatbots_outlive_their_operator(site: Site, helm: Helm, demo: Demo, tag: str) -> None:
    pods = site.pods()
    helm.run("uninstall", OPERATOR, f"--namespace={OPERATOR}", "--wait", "--timeout=200s")
    left = {kind: names(site, path(kind, OPERATOR)) for kind in KINDS}
    assert left == {kind: [] for kind in KINDS} | OF_EVERY_NAMESPACE
    assert [name for kind in WIDE for name in names(site, path(kind)) if name.startswith(OPERATOR)] == []
    assert "deletionTimestamp" not in site.instance()["metadata"]
    assert site.converse("Hola")
    helm.run("install", OPERATOR, str(CHART), f"--namespace={OPERATOR}", f"--set=image.tag={tag}", "--wait", "--timeout=180s")
    site.kubectl("annotate", "-n", site.namespace, f"cbi/{site.name}", "chatbotops.io/reconcile-at=reinstalled", "--overwrite")
    site.wait("a pass of the new operator", lambda: site.instance()["status"].get("lastHandledReconcileAt") == "reinstalled", 60)
    site.wait_ready()
    assert site.pods() == pods


def test_another_version_and_back_restarts_nothing(site: Site, helm: Helm, tag: str, tmp_path: Path) -> None:
    pods = site.pods()
    previous = tmp_path / "chatbot-operator"
    shutil.copytree(CHART, previous)
    chart = previous / "Chart.yaml"
    chart.write_text(chart.read_text().replace("version: 0.1.0", "version: 0.0.9").replace('appVersion: "0.1.0"', 'appVersion: "0.0.9"'))
    deployment = previous / "templates" / "deployment.yaml"
    marker = "            - {name: CHATBOT_PROBE_PORT"
    version = '            - {name: CHATBOT_OPERATOR_VERSION, value: "0.0.9"}\n'
    text = deployment.read_text()
    assert marker in text
    deployment.write_text(text.replace(marker, version + marker))
    for number, source in enumerate((previous, CHART, previous, CHART)):
        helm.run("upgrade", OPERATOR, str(source), f"--namespace={OPERATOR}", f"--set=image.tag={tag}", "--wait", "--timeout=180s")
        request = f"upgrade-{number}"
        site.kubectl("annotate", "-n", site.namespace, f"cbi/{site.name}", f"chatbotops.io/reconcile-at={request}", "--overwrite")
        site.wait(f"a pass after {request}", lambda: site.instance()["status"].get("lastHandledReconcileAt") == request, 60)  # noqa: B023  called within the loop
        site.wait_ready()
        assert site.pods() == pods
