"""Needs the control plane. Server-side apply by the operator's client: fingerprints, drift, ownership, typed errors."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from chatbot_operator.errors import (
    Conflict,
    FieldConflict,
    Forbidden,
    ImmutableFieldChanged,
    Invalid,
    LeadershipLost,
    NotFound,
)
from chatbot_operator.kube.client import KubeClient
from chatbot_operator.model.fingerprint import fingerprint, other_managers, project_owned
from chatbot_operator.model.objects import ObjectKey, key_of
from tests.support import children
from tests.support.cluster import Cluster
from tests.support.kubeapi import KubeApi, path
from tests.support.kubeclient import connect

Live = dict[str, Any]


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[KubeClient]:
    made = await connect(cluster.admin)
    yield made
    await made.close()


def live_print(live: Live) -> str:
    return fingerprint(project_owned(live))


@pytest.mark.parametrize("index", range(10), ids=[m["kind"] for m in children.every_kind("x")])
async def test_live_fingerprint_equals_rendered_one_and_a_second_apply_changes_nothing(
    client: KubeClient, namespace: str, index: int
) -> None:
    manifest = list(children.every_kind(namespace))[index]
    first = await client.apply(manifest)
    assert live_print(first) == fingerprint(manifest)
    second = await client.apply(manifest, first["metadata"]["uid"])
    assert live_print(second) == fingerprint(manifest)
    assert second["metadata"].get("generation") == first["metadata"].get("generation")


async def test_a_change_of_our_field_by_another_is_drift_and_is_forced_back(client: KubeClient, admin: KubeApi, namespace: str) -> None:
    manifest = children.deployment(namespace)
    made = await client.apply(manifest)
    target = path("Deployment", namespace, "app")
    edited = await admin.json_patch(
        target, [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "localhost/evil:1"}]
    )
    assert live_print(edited) != fingerprint(manifest)
    back = await client.apply(manifest, made["metadata"]["uid"])
    assert back["spec"]["template"]["spec"]["containers"][0]["image"] == "localhost/test:1"
    assert live_print(back) == fingerprint(manifest)


async def test_scale_by_another_is_drift_while_we_own_replicas_and_none_when_we_leave_them_out(
    client: KubeClient, admin: KubeApi, namespace: str
) -> None:
    manifest = children.deployment(namespace)
    made = await client.apply(manifest)
    scale = path("Deployment", namespace, "app") + "/scale"
    await admin.patch(scale, {"spec": {"replicas": 3}}, manager="autoscaler")
    live = await client.get("Deployment", namespace, "app")
    assert live_print(live) != fingerprint(manifest)
    assert other_managers(live, ("spec", "replicas")) == ("autoscaler",)

    without = children.deployment(namespace, replicas=None)
    live = await client.apply(without, made["metadata"]["uid"])
    assert live["spec"]["replicas"] == 3, "leaving a field out that another owns must not reset it"
    await admin.patch(scale, {"spec": {"replicas": 5}}, manager="autoscaler")
    assert live_print(await client.get("Deployment", namespace, "app")) == fingerprint(without)


async def test_what_others_add_is_no_drift(client: KubeClient, admin: KubeApi, namespace: str) -> None:
    manifest = children.deployment(namespace)
    await client.apply(manifest)
    container = {"name": "main", "env": [{"name": "INJECTED", "value": "1"}]}
    await admin.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "app", "namespace": namespace, "labels": {"team": "x"}, "annotations": {"deployment.example/x": "1"}},
            "spec": {"template": {"spec": {"containers": [container, {"name": "sidecar", "image": "localhost/side:1"}]}}},
        },
        namespace,
        manager="mesh",
    )
    live = await client.get("Deployment", namespace, "app")
    assert [c["name"] for c in live["spec"]["template"]["spec"]["containers"]] == ["main", "sidecar"]
    assert live_print(live) == fingerprint(manifest)


async def test_a_removed_label_and_a_removed_field_of_ours_are_drift(client: KubeClient, admin: KubeApi, namespace: str) -> None:
    manifest = children.deployment(namespace)
    await client.apply(manifest)
    target = path("Deployment", namespace, "app")
    unlabelled = await admin.json_patch(target, [{"op": "remove", "path": "/metadata/labels/chatbotops.io~1component"}])
    assert live_print(unlabelled) != fingerprint(manifest)
    await client.apply(manifest, unlabelled["metadata"]["uid"])
    unprobed = await admin.json_patch(target, [{"op": "remove", "path": "/spec/template/spec/containers/0/readinessProbe"}])
    assert live_print(unprobed) != fingerprint(manifest)


async def test_a_field_that_we_stop_rendering_is_removed(client: KubeClient, namespace: str) -> None:
    manifest = children.service(namespace)
    made = await client.apply(manifest)
    less = {**manifest, "metadata": {**manifest["metadata"], "annotations": {}}}
    del less["metadata"]["annotations"]
    after = await client.apply(less, made["metadata"]["uid"])
    assert "annotations" not in after["metadata"]
    assert live_print(after) == fingerprint(less)


async def test_create_never_takes_a_foreign_object(client: KubeClient, admin: KubeApi, namespace: str) -> None:
    foreign = children.service(namespace)
    foreign["metadata"].pop("labels")
    before = await admin.apply(foreign, namespace, manager="stranger")
    with pytest.raises(FieldConflict) as caught:
        await client.apply(children.service(namespace))
    assert caught.value.managers == ("stranger",)
    assert "Service" in str(caught.value)
    assert "stranger" in str(caught.value)
    after = await client.get("Service", namespace, "app")
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_create_does_not_take_an_object_of_an_earlier_instance_of_the_same_name(client: KubeClient, namespace: str) -> None:
    earlier = children.service(namespace)
    earlier["metadata"]["labels"]["chatbotops.io/instance-uid"] = "another"
    await client.apply(earlier)
    with pytest.raises(FieldConflict):
        await client.apply(children.service(namespace))


async def test_create_finds_what_a_crashed_pass_made(client: KubeClient, namespace: str) -> None:
    made = await client.apply(children.service(namespace))
    again = await client.apply(children.service(namespace))
    assert again["metadata"]["uid"] == made["metadata"]["uid"]
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


async def test_update_of_a_replaced_or_deleted_object_is_a_conflict(client: KubeClient, namespace: str) -> None:
    manifest = children.service(namespace)
    old = (await client.apply(manifest))["metadata"]["uid"]
    assert await client.delete(key_of(manifest), old) is True
    with pytest.raises(Conflict):
        await client.apply(manifest, old)
    with pytest.raises(NotFound):
        await client.get("Service", namespace, "app")
    await client.apply(manifest)
    with pytest.raises(Conflict):
        await client.apply(manifest, old)


async def test_delete_is_guarded_by_uid_and_may_be_repeated(client: KubeClient, namespace: str) -> None:
    manifest = children.service(namespace)
    uid = (await client.apply(manifest))["metadata"]["uid"]
    with pytest.raises(Conflict):
        await client.delete(key_of(manifest), "another")
    assert await client.delete(key_of(manifest), uid) is True
    assert await client.delete(key_of(manifest), uid) is False


@pytest.mark.parametrize("change", ["serviceName", "selector", "template", "claim"])
async def test_a_change_of_an_immutable_field_is_typed(client: KubeClient, namespace: str, change: str) -> None:
    manifest: dict[str, Any] = {
        "serviceName": children.stateful_set,
        "selector": children.deployment,
        "template": children.job,
        "claim": children.claim,
    }[change](namespace)
    uid = (await client.apply(manifest))["metadata"]["uid"]
    if change == "serviceName":
        manifest["spec"]["serviceName"] = "other"
    elif change == "selector":
        manifest["spec"]["selector"]["matchLabels"] = {"x": "y"}
        manifest["spec"]["template"]["metadata"]["labels"]["x"] = "y"
    elif change == "template":
        manifest["spec"]["template"]["spec"]["containers"][0]["image"] = "localhost/other:1"
    else:
        manifest["spec"]["storageClassName"] = "other"
    with pytest.raises(ImmutableFieldChanged) as caught:
        await client.apply(manifest, uid)
    assert manifest["kind"] in str(caught.value)


async def test_an_invalid_object_is_typed_and_its_values_do_not_leak(client: KubeClient, namespace: str) -> None:
    manifest = children.deployment(namespace)
    manifest["spec"]["template"]["spec"]["containers"][0]["env"].append({"name": "BAD=NAME", "value": "hunter2-hunter2"})
    manifest["spec"]["template"]["spec"]["containers"][0]["image"] = " hunter2-hunter2 "
    with pytest.raises(Invalid) as caught:
        await client.apply(manifest)
    assert not isinstance(caught.value, ImmutableFieldChanged)
    assert "hunter2" not in str(caught.value)


async def test_quota_and_rbac_are_told_apart(client: KubeClient, admin: KubeApi, namespace: str, cluster: Cluster, tmp_path: Any) -> None:
    await admin.request(
        "POST",
        f"/api/v1/namespaces/{namespace}/resourcequotas",
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": {"services": "0"}}},
    )
    quota = f"/api/v1/namespaces/{namespace}/resourcequotas/q"
    await admin.wait(quota, lambda q: q.get("status", {}).get("hard"), what="the quota is in force")
    with pytest.raises(Forbidden) as caught:
        await client.apply(children.service(namespace))
    assert caught.value.reason == "QuotaExceeded"

    await admin.wait(path("ServiceAccount", namespace, "default"), lambda _: True)
    weak = await connect(cluster.account_kubeconfig(namespace, "default", tmp_path / "weak.kubeconfig"))
    try:
        with pytest.raises(Forbidden) as caught:
            await weak.get("Secret", namespace, "x")
        assert caught.value.reason == "Forbidden"
    finally:
        await weak.close()


async def test_patches_have_preconditions(client: KubeClient, namespace: str) -> None:
    manifest = children.service(namespace)
    made = await client.apply(manifest)
    key = key_of(manifest)
    with pytest.raises(Conflict):
        await client.merge_patch(key, {"metadata": {"labels": {"a": "b"}}}, uid="another")
    with pytest.raises(Conflict):
        await client.merge_patch(key, {"metadata": {"resourceVersion": "1", "labels": {"a": "b"}}})
    with pytest.raises(Conflict):
        await client.json_patch(
            key, [{"op": "test", "path": "/metadata/uid", "value": "x"}, {"op": "add", "path": "/metadata/labels/a", "value": "b"}]
        )
    patched = await client.merge_patch(key, {"metadata": {"labels": {"a": "b"}}}, uid=made["metadata"]["uid"])
    assert patched["metadata"]["labels"]["a"] == "b"
    assert live_print(patched) == fingerprint(manifest), "our own patches are no drift of what we apply"
    with pytest.raises(NotFound):
        await client.merge_patch(ObjectKey("Service", namespace, "absent"), {"metadata": {"labels": {"a": "b"}}})


async def test_the_guard_stops_every_mutation_before_it_is_sent(cluster: Cluster, namespace: str) -> None:
    def refuse() -> None:
        raise LeadershipLost("not the leader")

    counts: Counter[tuple[str, int]] = Counter()
    guarded = await connect(cluster.admin, refuse, counts)
    manifest = children.service(namespace)
    key = key_of(manifest)
    try:
        for attempt in (
            guarded.apply(manifest),
            guarded.apply(manifest, "uid"),
            guarded.create(manifest),
            guarded.merge_patch(key, {}),
            guarded.json_patch(key, []),
            guarded.delete(key, "uid"),
        ):
            with pytest.raises(LeadershipLost):
                await attempt
        assert not counts, "a mutation without leadership reached the API server"
        with pytest.raises(NotFound):
            await guarded.get("Service", namespace, "app")
        assert counts["get", 404] == 1
    finally:
        await guarded.close()
