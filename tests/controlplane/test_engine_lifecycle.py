"""The whole engine against a real API server with simulated pods: create, steady, edit, drift, pause, hibernate, delete."""

from typing import Any

from tests.support import instances
from tests.support.audit import AuditLog
from tests.support.fixtures import OPERATOR_USER, StartOperator
from tests.support.instances import ask_for_pass, edit, is_answered, manifest, wait_passes, wait_ready
from tests.support.kubeapi import KubeApi, condition, path

FAST = {"CHATBOT_RESYNC_SECONDS": "10"}


def _replicas(live: dict[str, Any]) -> int:
    return int(live["spec"]["replicas"])


def _image(live: dict[str, Any]) -> str:
    return str(live["spec"]["template"]["spec"]["containers"][0]["image"])


async def test_a_created_instance_becomes_ready_and_then_costs_no_write_at_all(
    admin: KubeApi, namespace: str, start_operator: StartOperator, audit: AuditLog
) -> None:
    operator = start_operator(settings=FAST)
    await admin.create(manifest(namespace))
    live = await wait_ready(admin, namespace)
    assert live["status"]["release"]["stable"] == "1.0"
    found = await instances.children(admin, namespace)
    assert {"Deployment/shop-app", "Deployment/shop-scheduler", "StatefulSet/shop-postgres", "Secret/shop-postgres"} <= set(found)
    assert "annotations" not in live["metadata"], "kopf, or we, wrote an annotation"
    assert "finalizers" not in live["metadata"], "Retain needs no finalizer"
    assert {entry["manager"] for entry in live["metadata"]["managedFields"]} <= {"chatbot-operator", "python-requests", "Python", "unknown"}
    await wait_passes(operator, 2)
    audit.mark()
    await wait_passes(operator, 3)
    assert await instances.changed_by(audit, admin, OPERATOR_USER) == []


async def test_a_restart_changes_nothing(admin: KubeApi, namespace: str, start_operator: StartOperator, audit: AuditLog) -> None:
    first = start_operator(settings=FAST)
    await admin.create(manifest(namespace))
    await wait_ready(admin, namespace)
    await wait_passes(first, 2)
    first.kill()
    audit.mark()
    second = start_operator(settings=FAST)
    await instances.until(lambda: instances.passes(second, "steady") >= 2, "the new process looked at the instance twice")
    assert await instances.changed_by(audit, admin, OPERATOR_USER) == []


async def test_an_edit_reaches_the_children_and_quick_edits_are_not_lost(
    admin: KubeApi, namespace: str, start_operator: StartOperator
) -> None:
    """kopf's trap 2: of three quick edits the last must win."""
    start_operator()
    await admin.create(manifest(namespace))
    await wait_ready(admin, namespace)
    for replicas in (3, 4, 5):
        await edit(admin, namespace, {"app": {"replicas": replicas}})
    live = await wait_ready(admin, namespace)
    assert live["status"]["observedGeneration"] == 4
    assert _replicas(await admin.get(path("Deployment", namespace, "shop-app"))) == 5


async def test_drift_in_our_fields_is_repaired_and_the_work_of_others_is_left_alone(
    admin: KubeApi, namespace: str, start_operator: StartOperator
) -> None:
    start_operator()
    await admin.create(manifest(namespace))
    await wait_ready(admin, namespace)
    app = path("Deployment", namespace, "shop-app")
    await admin.patch(f"{app}/scale", {"spec": {"replicas": 7}}, manager="kubectl-scale")
    await admin.wait(app, lambda live: _replicas(live) == 2, what="replicas back")
    await admin.patch(app, {"metadata": {"annotations": {"team.example/note": "kept"}}}, manager="kubectl-annotate")
    container = {"name": "app", "image": instances.OTHER_IMAGE}
    await admin.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "shop-app", "namespace": namespace},
            "spec": {"template": {"spec": {"containers": [container]}}},
        },
        manager="kubectl-set",
    )
    live = await admin.wait(app, lambda live: _image(live) == instances.IMAGE, what="image back")
    assert live["metadata"]["annotations"]["team.example/note"] == "kept"
    await admin.delete(path("Service", namespace, "shop-app"))
    await admin.wait(path("Service", namespace, "shop-app"), lambda live: "deletionTimestamp" not in live["metadata"], what="Service back")
    await wait_ready(admin, namespace)


async def test_somebody_who_keeps_taking_a_field_is_named_and_then_left_alone(
    admin: KubeApi, namespace: str, start_operator: StartOperator
) -> None:
    start_operator()
    await admin.create(manifest(namespace))
    await wait_ready(admin, namespace)
    app = path("Deployment", namespace, "shop-scheduler")
    for _ in range(3):
        await admin.patch(app, {"spec": {"replicas": 3}}, manager="stubborn")
        await admin.wait(app, lambda live: _replicas(live) == 1, what="replicas back")
    await admin.patch(app, {"spec": {"replicas": 3}}, manager="stubborn")
    live = await admin.wait(
        path("ChatbotInstance", namespace, "shop"), lambda live: instances.reason(live) == "FieldConflict", what="FieldConflict"
    )
    assert "stubborn" in condition(live, "Ready")["message"]
    await ask_for_pass(admin, namespace)
    await admin.wait(path("ChatbotInstance", namespace, "shop"), is_answered, what="a pass that saw the drift")
    assert _replicas(await admin.get(app)) == 3


async def test_an_object_that_is_not_ours_is_never_taken(admin: KubeApi, namespace: str, start_operator: StartOperator) -> None:
    foreign = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "shop-app", "namespace": namespace},
        "spec": {"ports": [{"name": "mine", "port": 1234}]},
    }
    await admin.create(foreign)
    start_operator()
    await admin.create(manifest(namespace))
    target = path("ChatbotInstance", namespace, "shop")
    live = await admin.wait(target, lambda live: instances.reason(live) == "FieldConflict", 90, "FieldConflict")
    assert "shop-app" in condition(live, "Ready")["message"]
    assert condition(live, "Stalled")["status"] == "True"
    service = await admin.get(path("Service", namespace, "shop-app"))
    assert [port["port"] for port in service["spec"]["ports"]] == [1234]
    await admin.delete(path("Service", namespace, "shop-app"))
    await ask_for_pass(admin, namespace)
    await wait_ready(admin, namespace)


async def test_a_request_by_annotation_makes_one_pass_and_is_acknowledged(
    admin: KubeApi, namespace: str, start_operator: StartOperator
) -> None:
    start_operator()
    await admin.create(manifest(namespace))
    await wait_ready(admin, namespace)
    await ask_for_pass(admin, namespace)
    await admin.wait(path("ChatbotInstance", namespace, "shop"), is_answered, what="the answer")


async def test_a_paused_instance_is_observed_and_not_touched(
    admin: KubeApi, namespace: str, start_operator: StartOperator, audit: AuditLog
) -> None:
    start_operator()
    await admin.create(manifest(namespace))
    await wait_ready(admin, namespace)
    await edit(admin, namespace, {"lifecycle": "Paused"})
    target = path("ChatbotInstance", namespace, "shop")
    await admin.wait(target, lambda live: live["status"]["observedGeneration"] == 2, what="the pause was seen")
    audit.mark()
    app = path("Deployment", namespace, "shop-app")
    await admin.patch(app, {"spec": {"replicas": 4}})
    await ask_for_pass(admin, namespace)
    await admin.wait(target, lambda live: "1 object(s) differ" in condition(live, "Ready")["message"], what="a pass that saw the drift")
    touched = await instances.changed_by(audit, admin, OPERATOR_USER)
    assert {change.split()[1] for change in touched} <= {"chatbotinstances/status", "events"}
    assert _replicas(await admin.get(app)) == 4
    assert not is_answered(await admin.get(target)), "what was asked for is done once something may be done"
    await edit(admin, namespace, {"lifecycle": "Running"})
    assert is_answered(await wait_ready(admin, namespace))
    assert _replicas(await admin.get(app)) == 2


async def test_hibernate_stops_all_pods_and_keeps_all_data(admin: KubeApi, namespace: str, start_operator: StartOperator) -> None:
    start_operator()
    await admin.create(manifest(namespace))
    await wait_ready(admin, namespace)
    before = await instances.children(admin, namespace)
    await edit(admin, namespace, {"lifecycle": "Hibernated"})
    for kind, name in (("Deployment", "shop-app"), ("Deployment", "shop-scheduler"), ("StatefulSet", "shop-postgres")):
        await admin.wait(path(kind, namespace, name), lambda live: _replicas(live) == 0, 60, f"{name} at 0")
    during = await instances.children(admin, namespace)
    kept = [name for name in before if name.startswith(("PersistentVolumeClaim", "Secret"))]
    assert kept
    assert all(during[name]["metadata"]["uid"] == before[name]["metadata"]["uid"] for name in kept)
    await edit(admin, namespace, {"lifecycle": "Running"})
    await wait_ready(admin, namespace)


async def test_retain_keeps_the_data_and_an_instance_of_the_same_name_finds_it_again(
    admin: KubeApi, namespace: str, start_operator: StartOperator
) -> None:
    start_operator()
    await admin.create(manifest(namespace))
    await wait_ready(admin, namespace)
    secret = await admin.get(path("Secret", namespace, "shop-postgres"))
    claim = await admin.get(path("PersistentVolumeClaim", namespace, "shop-pgdata-g1"))
    await admin.delete(path("ChatbotInstance", namespace, "shop"))
    await admin.wait_gone(path("Deployment", namespace, "shop-app"))
    await admin.wait_gone(path("StatefulSet", namespace, "shop-postgres"))
    await admin.create(manifest(namespace))
    await wait_ready(admin, namespace)
    again = await admin.get(path("Secret", namespace, "shop-postgres"))
    assert again["data"] == secret["data"]
    assert again["metadata"]["uid"] == secret["metadata"]["uid"]
    found = await admin.get(path("PersistentVolumeClaim", namespace, "shop-pgdata-g1"))
    assert found["metadata"]["uid"] == claim["metadata"]["uid"]


async def test_delete_removes_everything_and_then_releases_the_instance(
    admin: KubeApi, namespace: str, start_operator: StartOperator
) -> None:
    start_operator()
    await admin.create(manifest(namespace, deletionPolicy="Delete"))
    live = await wait_ready(admin, namespace)
    assert live["metadata"]["finalizers"] == ["chatbotops.io/cleanup"]
    await admin.delete(path("ChatbotInstance", namespace, "shop"))
    await admin.wait_gone(path("ChatbotInstance", namespace, "shop"), 60)
    await admin.wait_gone(path("PersistentVolumeClaim", namespace, "shop-pgdata-g1"))
    await admin.wait_gone(path("Secret", namespace, "shop-postgres"))
    await admin.wait_gone(path("Deployment", namespace, "shop-app"))


async def test_a_terminating_namespace_is_not_held_up(admin: KubeApi, namespace: str, start_operator: StartOperator) -> None:
    operator = start_operator()
    await admin.create(manifest(namespace, deletionPolicy="Delete"))
    await wait_ready(admin, namespace)
    await admin.delete(path("Namespace", name=namespace))
    await admin.wait_gone(path("Namespace", name=namespace), 120)
    assert "DataLossSuspected" not in operator.log.read_text(), "a volume that goes with its namespace is no loss"
