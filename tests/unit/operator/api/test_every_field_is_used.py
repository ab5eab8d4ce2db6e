"""No field that does nothing: changing any field of the spec changes what an instance is made of. Needs nothing.

Each field of the CRD has a line here with two values; an instance is brought to rest with each on the model of a cluster.
"""

import copy
import json
from functools import cache
from typing import Any

import pytest
import yaml

from chatbot_operator.api.v1alpha1.instance import ChatbotInstanceSpec
from chatbot_operator.desired.backup import Run, render_job
from chatbot_operator.desired.inputs import Inputs
from chatbot_operator.model.targets import IDLE
from tests.support.golden import bring_secrets
from tests.support.simcluster import Cluster
from tools.generate import ROOT

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
BASE: dict[str, Any] = {
    "release": {"version": "1.0.0", "image": f"chatbot@{A}"},
    "imagePullSecrets": [{"name": "pull"}],
    "workerWeb": {"numbers": [{"name": "main"}]},
    "channels": {"cloud": {"phoneNumberId": "1", "secretRef": {"name": "wa"}}},
    "cache": {"durability": "Persistent"},
    "secrets": {"jwt": {"name": "auth", "key": "jwt"}, "adminPassword": {"name": "auth", "key": "admin"}},
}
AUTOSCALED = {"app": {"autoscaling": {"maxReplicas": 5}}}
EXTERNAL = {
    "database": {
        "mode": "External",
        "external": {"urlRef": {"name": "db", "key": "url"}, "migrationUrlRef": {"name": "db", "key": "owner"}},
    },
    "cache": {"mode": "External", "external": {"urlRef": {"name": "redis", "key": "url"}}},
}
RESOURCES: dict[str, tuple[Any, Any]] = {
    "requests.cpu": ("100m", "200m"),
    "requests.memory": ("100Mi", "200Mi"),
    "limits.cpu": ("1", "2"),
    "limits.memory": ("1Gi", "2Gi"),
}
TOLERATION = {"key": "a", "value": "b", "effect": "NoExecute"}
SCHEDULING: dict[str, tuple[Any, Any]] = {
    "nodeSelector": ({"disk": "ssd"}, {"disk": "hdd"}),
    "priorityClassName": ("low", "high"),
    "tolerations[].key": ([TOLERATION], [TOLERATION | {"key": "z"}]),
    "tolerations[].operator": ([{"key": "a"}], [{"key": "a", "operator": "Exists"}]),
    "tolerations[].value": ([TOLERATION], [TOLERATION | {"value": "z"}]),
    "tolerations[].effect": ([TOLERATION], [TOLERATION | {"effect": "NoSchedule"}]),
    "tolerations[].tolerationSeconds": ([TOLERATION], [TOLERATION | {"tolerationSeconds": 5}]),
}
FIELDS: dict[str, tuple[Any, Any]] = {
    "lifecycle": ("Running", "Hibernated"),
    "deletionPolicy": ("Retain", "Delete"),
    "release.version": ("1.0.0", "1.0.1"),
    "release.image": (f"chatbot@{A}", f"chatbot@{B}"),
    "release.images.app": (f"app@{A}", f"app@{B}"),
    "release.images.scheduler": (f"scheduler@{A}", f"scheduler@{B}"),
    "release.images.workerWeb": (f"worker@{A}", f"worker@{B}"),
    "release.migrations.timeoutSeconds": (900, 901),
    "release.migrations.lockTimeoutSeconds": (10, 11),
    "imagePullSecrets[].name": ([{"name": "pull"}], [{"name": "other"}]),
    "app.replicas": (2, 3),
    "app.publicURL": ("https://a.example.com", "https://b.example.com"),
    "app.trustedProxies": (["10.0.0.0/8"], ["10.0.0.0/8", "fd00::/8"]),
    "app.logLevel": ("Info", "Debug"),
    "app.terminationGracePeriodSeconds": (45, 60),
    "scheduler.logLevel": ("Info", "Debug"),
    "scheduler.terminationGracePeriodSeconds": (45, 60),
    "workerWeb.numbers[].name": ([{"name": "main"}], [{"name": "other"}]),
    "workerWeb.numbers[].sessionStorage": ([{"name": "main"}], [{"name": "main", "sessionStorage": "3Gi"}]),
    "workerWeb.storageClassName": ("fast", "slow"),
    "workerWeb.logLevel": ("Info", "Debug"),
    "workerWeb.terminationGracePeriodSeconds": (90, 120),
    "channels.cloud.phoneNumberId": ("1", "2"),
    "channels.cloud.secretRef.name": ("wa", "other"),
    "channels.cloud.apiBaseURL": ("https://a.example.com", "https://b.example.com"),
    "channels.cloud.apiVersion": ("v23.0", "v24.0"),
    "database.storage.size": ("20Gi", "30Gi"),
    "database.storage.storageClassName": ("fast", "slow"),
    "cache.durability": ("Ephemeral", "Persistent"),
    "cache.maxMemory": ("128Mi", "256Mi"),
    "cache.storage.size": ("1Gi", "2Gi"),
    "cache.storage.storageClassName": ("fast", "slow"),
    "secrets.jwt.name": ("auth", "other"),
    "secrets.jwt.key": ("jwt", "other"),
    "secrets.adminPassword.name": ("auth", "other"),
    "secrets.adminPassword.key": ("admin", "other"),
    "security.networkPolicy": ("Enabled", "Disabled"),
    "backup.target.persistentVolumeClaim.size": ("20Gi", "30Gi"),
    "backup.target.persistentVolumeClaim.storageClassName": ("fast", "slow"),
    **{
        f"{component}.{group}.{name}": values
        for component in ("app", "scheduler", "workerWeb", "database", "cache")
        for group, fields in (("resources", RESOURCES), ("scheduling", SCHEDULING))
        for name, values in fields.items()
    },
}
UNDER: dict[str, tuple[dict[str, Any], tuple[Any, Any]]] = {
    "app.autoscaling.minReplicas": (AUTOSCALED, (2, 3)),
    "app.autoscaling.maxReplicas": (AUTOSCALED, (5, 6)),
    "app.autoscaling.targetCPUPercent": (AUTOSCALED, (70, 71)),
    "database.external.urlRef.name": (EXTERNAL, ("db", "other")),
    "database.external.urlRef.key": (EXTERNAL, ("url", "other")),
    "database.external.migrationUrlRef.name": (EXTERNAL, ("db", "other")),
    "database.external.migrationUrlRef.key": (EXTERNAL, ("owner", "other")),
    "cache.external.urlRef.name": (EXTERNAL, ("redis", "other")),
    "cache.external.urlRef.key": (EXTERNAL, ("url", "other")),
}
"""Fields that only mean something beside others."""
BY_BACKUPS = {f"backup.resources.{name}": values for name, values in RESOURCES.items()}
"""Seen in the Jobs of a ChatbotBackup alone."""
BY_THE_API_SERVER = {"release.tagPolicy"}
"""Read by a CEL rule of the CRD; `tests/controlplane/test_crd_rules.py` shows its effect."""
WHOLE = {"database.mode", "cache.mode"}
"""Compared in a test of their own, because `external` comes with them."""


def leaves(node: dict[str, Any], path: str = "") -> set[str]:
    """Return the paths of all fields that hold a value themselves."""
    if node.get("properties"):
        return {leaf for name, child in node["properties"].items() for leaf in leaves(child, f"{path}.{name}" if path else name)}
    if node.get("items", {}).get("properties"):
        return leaves(node["items"], f"{path}[]")
    return {path}


def with_value(spec: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return the spec with a field set; for a list the value is the whole list."""
    result = copy.deepcopy(spec)
    *parents, last = path.partition("[]")[0].split(".")
    node = result
    for name in parents:
        node = node.setdefault(name, {})
    node[last] = value
    return result


def outcome(spec: dict[str, Any]) -> str:
    """Return everything an instance consists of at rest, Secrets by name, with its finalizers."""
    return _outcome(json.dumps(ChatbotInstanceSpec.model_validate(spec).to_api(), sort_keys=True))


@cache
def _outcome(spec: str) -> str:
    cluster = Cluster(ChatbotInstanceSpec.model_validate_json(spec))
    bring_secrets(cluster)
    cluster.settle()
    assert cluster.condition("Ready") in (("True", "AllReady"), ("False", "Hibernated"))
    things = {str(key): thing.body for key, thing in cluster.things.items() if key.kind != "Secret"}
    secrets = sorted(str(key) for key in cluster.things if key.kind == "Secret")
    return json.dumps([things, secrets, cluster.finalizers], sort_keys=True)


def test_every_field_has_a_line_here() -> None:
    crd = yaml.safe_load((ROOT / "crds/chatbotops.io_chatbotinstances.yaml").read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert leaves(spec) == FIELDS.keys() | UNDER.keys() | BY_BACKUPS.keys() | BY_THE_API_SERVER | WHOLE


@pytest.mark.parametrize("path", [*FIELDS, *UNDER])
def test_a_field_changes_what_an_instance_is_made_of(path: str) -> None:
    beside, values = UNDER[path] if path in UNDER else ({}, FIELDS[path])
    first, second = (outcome(with_value(BASE | beside, path, value)) for value in values)
    assert first != second


@pytest.mark.parametrize("path", BY_BACKUPS)
def test_a_field_changes_what_a_backup_is_made_with(path: str) -> None:
    facts = Cluster(ChatbotInstanceSpec.model_validate(BASE)).operator
    run = Run("nightly", "uid-2", "uid-1/logical/uid-2", "0123456789", 1, 3600)
    made = [
        render_job(
            Inputs("chat", "demo", "uid-1", ChatbotInstanceSpec.model_validate(with_value(BASE, path, value)), IDLE, facts), "backup", run
        )
        for value in BY_BACKUPS[path]
    ]
    assert made[0] != made[1]


def test_the_modes_change_what_an_instance_is_made_of() -> None:
    managed = outcome(BASE)
    for field in ("database", "cache"):
        external = outcome(BASE | {field: EXTERNAL[field]})
        kind = {"database": "demo-postgres", "cache": "demo-redis"}[field]
        assert f"StatefulSet chat/{kind}" in managed
        assert f"StatefulSet chat/{kind}" not in external


def test_the_rule_reads_what_only_the_api_server_reads() -> None:
    crd = (ROOT / "crds/chatbotops.io_chatbotinstances.yaml").read_text()
    for path in BY_THE_API_SERVER:
        assert f"self.{path.rpartition('.')[2]}" in crd
