"""The chart renders, suits a real API server with any sensible values, and asks for no needless right. Needs Helm and the plane."""

import re
from typing import Any

import pytest
import yaml

from chatbot_operator.config import Config
from testbed.api import Api
from tests.support.cluster import ROOT, Cluster
from tests.support.helm import CHART, PROGRAMS, Helm, is_hook, of_kind
from tests.support.kubeapi import path_of

VARIANTS = {
    "default": (),
    "one-replica": ("--set=replicas=1",),
    "watch-list": ("--set=watchNamespaces={chat-a,chat-b}",),
    "digest": (f"--set=image.repository=registry.example.com/op,image.digest=sha256:{'a' * 64}",),
    "pull-secrets": ("--set=imagePullSecrets[0].name=registry",),
    "placement": (
        "--set=nodeSelector.disk=ssd,priorityClassName=system-cluster-critical",
        "--set=tolerations[0].key=infra,tolerations[0].operator=Exists",
    ),
    "no-crds": ("--set=crds.install=false",),
    "crds-not-kept": ("--set=crds.keep=false",),
}


@pytest.fixture(scope="module", params=PROGRAMS)
def helm(request: pytest.FixtureRequest, cluster: Cluster) -> Helm:
    return Helm.of(cluster, request.param)


@pytest.fixture(scope="module")
def helm4(cluster: Cluster) -> Helm:
    return Helm.of(cluster, "helm")


def pod_specs(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the specs of all pods: plain ones, and those of Deployments and Jobs."""
    plain = [item["spec"] for item in manifests if item["kind"] == "Pod"]
    return plain + [item["spec"]["template"]["spec"] for item in manifests if item["kind"] in ("Deployment", "Job")]


def test_lint(helm: Helm) -> None:
    helm.run("lint", "--strict", str(CHART))


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_api_server_takes_every_object(helm4: Helm, cluster: Cluster, namespace: str, variant: str) -> None:
    api = Api(cluster.admin)
    for manifest in helm4.template(*VARIANTS[variant], release="dry", namespace=namespace):
        if manifest["metadata"].get("namespace", namespace) != namespace:
            continue  # RoleBindings of watched namespaces that this cluster does not have
        target = path_of(manifest, namespace) if "namespace" in manifest["metadata"] else path_of(manifest)
        collection = target.rpartition("/")[0]
        if manifest["kind"] == "CustomResourceDefinition":
            continue  # applied for real by the fixture `crds`, which a second creation would meet
        api.create(f"{collection}?dryRun=All&fieldValidation=Strict", manifest)


def test_both_programs_render_the_same(cluster: Cluster) -> None:
    rendered = [Helm.of(cluster, program).template() for program in PROGRAMS]
    key = lambda manifest: (manifest["kind"], manifest["metadata"]["name"])  # noqa: E731  two uses, one line
    assert sorted(rendered[0], key=key) == sorted(rendered[1], key=key)


@pytest.mark.parametrize(
    "values",
    [
        "replicas=4",
        "replicas=two",
        "replica=1",
        "operator.logLevel=verbose",
        "operator.leaseSeconds=0",
        "image.digest=sha256:abc",
        "image.repository=",
        "watchNamespaces={Chat_A}",
        "crds.keep=sometimes",
        "dataImages.postgres=",
    ],
)
def test_wrong_values_are_refused(helm: Helm, values: str) -> None:
    done = helm.run("template", "x", str(CHART), f"--set={values}", check=False)
    assert done.returncode != 0
    assert values.partition("=")[0].split(".")[-1] in done.stderr


CHANGED = {
    "image.repository": "registry.example.com/op",
    "image.tag": "other",
    "image.digest": f"sha256:{'b' * 64}",
    "image.pullPolicy": "Always",
    "dataImages.postgres": "registry.example.com/postgres:2",
    "dataImages.redis": "registry.example.com/redis:2",
    "imagePullSecrets": "[0].name=registry",
    "replicas": "3",
    "watchNamespaces": "[0]=chat-a",
    "operator.logLevel": "debug",
    "operator.maxConcurrentPasses": "5",
    "operator.resyncSeconds": "900",
    "operator.maxConcurrentRestarts": "7",
    "operator.leaseSeconds": "33",
    "resources.requests.cpu": "77m",
    "resources.requests.memory": "177Mi",
    "resources.limits.memory": "777Mi",
    "nodeSelector": ".disk=ssd",
    "tolerations": "[0].operator=Exists",
    "priorityClassName": "system-cluster-critical",
    "podDisruptionBudget.enabled": "false",
    "crds.install": "false",
    "crds.keep": "false",
}
"""Each value of the chart and another one; where it begins with `.` or `[` it sets a member of an empty value."""


def leaves(node: Any, prefix: str = "") -> list[str]:
    if isinstance(node, dict) and node:
        return [leaf for name, child in node.items() for leaf in leaves(child, f"{prefix}.{name}" if prefix else name)]
    return [prefix]


def test_no_value_is_left_out_of_the_next_test() -> None:
    assert sorted(CHANGED) == sorted(leaves(yaml.safe_load((CHART / "values.yaml").read_text())))


@pytest.mark.parametrize("leaf", CHANGED)
def test_each_value_changes_the_rendering(helm4: Helm, leaf: str) -> None:
    value = CHANGED[leaf]
    option = f"--set={leaf}{value}" if value[0] in ".[" else f"--set={leaf}={value}"
    assert helm4.template(option) != helm4.template()


def test_every_pod_of_the_chart_goes_where_the_values_say(helm4: Helm) -> None:
    pods = pod_specs(helm4.template(*VARIANTS["placement"]))
    assert len(pods) == 3
    for pod in pods:
        assert pod["nodeSelector"] == {"disk": "ssd"}
        assert pod["tolerations"] == [{"key": "infra", "operator": "Exists"}]
        assert pod["priorityClassName"] == "system-cluster-critical"


def test_the_operator_is_configured_by_variables_that_it_reads(helm4: Helm) -> None:
    container = of_kind(helm4.template(), "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]
    given = {variable["name"] for variable in container["env"]}
    known = set(re.findall(r"\"((?:CHATBOT|POD)_[A-Z_]+)\"", (ROOT / "operator/chatbot_operator/config.py").read_text()))
    assert given <= known
    plain = {variable["name"]: variable.get("value", "x") for variable in container["env"]}
    config = Config.from_env(plain)
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert config.postgres_image == values["dataImages"]["postgres"]
    assert config.lease_seconds == values["operator"]["leaseSeconds"]
    assert config.max_concurrent_passes == values["operator"]["maxConcurrentPasses"]
    assert config.max_concurrent_restarts == values["operator"]["maxConcurrentRestarts"]
    assert config.resync_seconds == values["operator"]["resyncSeconds"]
    assert config.log_level == values["operator"]["logLevel"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert (ports["probes"], ports["metrics"]) == (config.probe_port, config.metrics_port)


def test_crds_are_kept_unless_told_otherwise(helm4: Helm) -> None:
    for crd in of_kind(helm4.template(), "CustomResourceDefinition"):
        assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    for crd in of_kind(helm4.template("--set=crds.keep=false"), "CustomResourceDefinition"):
        assert "annotations" not in crd["metadata"]
    assert of_kind(helm4.template("--set=crds.install=false"), "CustomResourceDefinition") == []


def test_the_charts_crd_is_the_generated_one(helm4: Helm) -> None:
    generated = {
        crd["metadata"]["name"]: crd["spec"] for path in (ROOT / "crds").glob("*.yaml") if (crd := yaml.safe_load(path.read_text()))
    }
    assert {crd["metadata"]["name"]: crd["spec"] for crd in of_kind(helm4.template(), "CustomResourceDefinition")} == generated


def test_a_single_replica_has_no_budget_that_blocks_drains(helm4: Helm) -> None:
    budget = of_kind(helm4.template(), "PodDisruptionBudget")[0]
    assert budget["spec"]["maxUnavailable"] == 1
    assert of_kind(helm4.template("--set=replicas=1"), "PodDisruptionBudget") == []


FORBIDDEN_VERBS = {"*", "escalate", "bind", "impersonate", "deletecollection"}
FORBIDDEN_RESOURCES = {
    "*",
    "pods/exec",
    "pods/attach",
    "pods/portforward",
    "roles",
    "clusterroles",
    "rolebindings",
    "clusterrolebindings",
    "serviceaccounts/token",
    "nodes",
}


def rules_of(manifests: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    return [(item["metadata"]["name"], rule) for item in manifests if item["kind"] in ("Role", "ClusterRole") for rule in item["rules"]]


CHILD = "create delete get list patch watch"
RIGHTS = {
    ("chatbot-operator-children", "deployments statefulsets"): CHILD,
    ("chatbot-operator-children", "jobs"): CHILD,
    ("chatbot-operator-children", "persistentvolumeclaims secrets serviceaccounts services"): CHILD,
    ("chatbot-operator-children", "poddisruptionbudgets"): CHILD,
    ("chatbot-operator-children", "horizontalpodautoscalers"): CHILD,
    ("chatbot-operator-children", "networkpolicies"): CHILD,
    ("chatbot-operator-children", "pods"): "list watch",
    ("chatbot-operator-children", "events"): "create get patch",
    ("chatbot-operator-own-kinds", "chatbotinstances"): "get list patch watch",
    ("chatbot-operator-own-kinds", "chatbotbackups"): "get list watch",
    ("chatbot-operator-own-kinds", "chatbotbackups/status chatbotinstances/status"): "patch",
    ("chatbot-operator-own-kinds", "customresourcedefinitions named chatbotinstances.chatbotops.io chatbotbackups.chatbotops.io"): "get",
    ("chatbot-operator-own-kinds", "namespaces"): "get",
    ("chatbot-operator-lease", "leases"): "create",
    ("chatbot-operator-lease", "leases named chatbot-operator"): "get list patch watch",
    ("chatbot-operator-retire", "chatbotinstances"): "get list patch",
    ("chatbot-operator-retire", "deployments named chatbot-operator"): "patch",
    ("chatbot-operator-retire", "leases named chatbot-operator"): "delete get",
}
"""Every right of the chart: a verb that is added here is one that code calls."""


def test_the_rights_are_exactly_these(helm4: Helm) -> None:
    granted = {}
    for name, rule in rules_of(helm4.template()):
        named = f" named {' '.join(rule['resourceNames'])}" if "resourceNames" in rule else ""
        granted[name, " ".join(sorted(rule["resources"])) + named] = " ".join(sorted(rule["verbs"]))
    assert granted == RIGHTS


def test_no_right_that_could_grow_into_another(helm4: Helm) -> None:
    for name, rule in rules_of(helm4.template()):
        assert not FORBIDDEN_VERBS & set(rule["verbs"]), name
        assert not FORBIDDEN_RESOURCES & set(rule["resources"]), name
        assert "*" not in rule["apiGroups"], name


def test_custom_resources_are_never_deleted_nor_created(helm4: Helm) -> None:
    for name, rule in rules_of(helm4.template()):
        if "chatbotops.io" in rule["apiGroups"]:
            assert not {"delete", "create", "deletecollection"} & set(rule["verbs"]), name


def test_a_watch_list_binds_children_in_those_namespaces_only(helm4: Helm) -> None:
    manifests = helm4.template("--set=watchNamespaces={chat-a,chat-b}")
    children = [item for item in manifests if item["kind"].endswith("Binding") and item["metadata"]["name"].endswith("-children")]
    assert [(item["kind"], item["metadata"]["namespace"]) for item in children] == [("RoleBinding", "chat-a"), ("RoleBinding", "chat-b")]
    own = [item for item in manifests if item["metadata"]["name"].endswith("-own-kinds") and item["kind"].endswith("Binding")]
    # A terminating namespace could never be released otherwise.
    assert [item["kind"] for item in own] == ["ClusterRoleBinding"]


def test_pods_meet_pod_security_restricted_and_mount_no_needless_token(helm4: Helm) -> None:
    specs = pod_specs(helm4.template())
    assert len(specs) == 3
    for spec in specs:
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is ("serviceAccountName" in spec)
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert "memory" in container["resources"]["limits"]


def test_hooks_only_run_before_deletion_and_as_test(helm4: Helm) -> None:
    hooks = {manifest["metadata"]["annotations"]["helm.sh/hook"] for manifest in helm4.template() if is_hook(manifest)}
    assert hooks == {"pre-delete", "test"}


def test_two_releases_do_not_meet(helm4: Helm) -> None:
    names = [
        {(m["kind"], m["metadata"]["name"]) for m in helm4.template(release=release) if m["kind"] != "CustomResourceDefinition"}
        for release in ("blue", "green")
    ]
    assert names[0] & names[1] == set()
