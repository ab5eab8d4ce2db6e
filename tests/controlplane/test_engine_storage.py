"""A StorageClass that does not exist: the scheduler of a real control plane names it nowhere, the condition does."""

from typing import Any

import pytest

from tests.support import instances
from tests.support.fixtures import StartOperator
from tests.support.instances import manifest, wait_ready
from tests.support.kubeapi import KubeApi, condition, path


@pytest.fixture
def storage_class(namespace: str) -> dict[str, Any]:
    """A class of the test's own, as the simulated one, not yet made."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": f"class-{namespace[-6:]}"},
        "provisioner": "testbed.chatbotops.io/simulated",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


async def test_a_storage_class_that_is_nowhere_is_named_and_waited_for(
    admin: KubeApi, namespace: str, start_operator: StartOperator, storage_class: dict[str, Any]
) -> None:
    start_operator()
    name = storage_class["metadata"]["name"]
    await admin.create(manifest(namespace, database={"storage": {"size": "1Gi", "storageClassName": name}}))
    target = path("ChatbotInstance", namespace, "shop")
    live = await admin.wait(target, lambda live: instances.reason(live, "DatabaseReady") == "NotScheduled", 60, "NotScheduled")
    assert f"claim shop-pgdata-g1 has no volume (StorageClass {name})" in condition(live, "Ready")["message"]
    assert condition(live, "Ready")["status"] == "False"
    assert condition(live, "Stalled")["status"] == "False", "somebody may make the class"
    await admin.wait(path("StatefulSet", namespace, "shop-redis"), lambda live: live["status"].get("readyReplicas") == 1, what="a cache")
    try:
        await admin.create(storage_class)
        await wait_ready(admin, namespace)
    finally:
        await admin.delete(path("StorageClass", name=name))
