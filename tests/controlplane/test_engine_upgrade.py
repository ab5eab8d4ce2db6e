"""A newer operator restarts nothing by itself, applies its pod templates on request, and one that breaks pods stops at one instance."""

from typing import Any

from tests.support import instances
from tests.support.audit import AuditLog
from tests.support.fixtures import OPERATOR_USER, StartOperator
from tests.support.instances import ask_for_pass, is_answered, manifest, wait_ready
from tests.support.kubeapi import KubeApi, condition, path

OLD = {"CHATBOT_OPERATOR_VERSION": "1.0.0", "CHATBOT_POSTGRES_IMAGE": "localhost/chatbot-postgres:1"}
NEW = {"CHATBOT_OPERATOR_VERSION": "2.0.0", "CHATBOT_POSTGRES_IMAGE": "localhost/chatbot-postgres:2"}
BROKEN = {**NEW, "CHATBOT_POSTGRES_IMAGE": "localhost/never-ready:2"}


def _image(live: dict[str, Any]) -> str:
    return str(live["spec"]["template"]["spec"]["containers"][0]["image"])


def _pending(live: dict[str, Any]) -> bool:
    return bool(condition(live, "OperatorCurrent").get("reason") == "PendingOperatorUpdate")


async def _ask(admin: KubeApi, namespace: str, name: str) -> None:
    annotations = {"chatbotops.io/apply-operator-update": "2.0.0"}
    await admin.patch(path("ChatbotInstance", namespace, name), {"metadata": {"annotations": annotations}})


async def test_a_newer_operator_restarts_nothing_until_it_is_asked_to(
    admin: KubeApi, namespace: str, start_operator: StartOperator, audit: AuditLog
) -> None:
    old = start_operator(settings=OLD)
    await admin.create(manifest(namespace))
    await wait_ready(admin, namespace)
    old.terminate()
    audit.mark()
    new = start_operator(settings=NEW)
    instance = path("ChatbotInstance", namespace, "shop")
    await admin.wait(instance, _pending, what="PendingOperatorUpdate")
    await instances.until(lambda: instances.passes(new, "steady") >= 1, "a steady pass")
    touched = await instances.changed_by(audit, admin, OPERATOR_USER)
    assert {change.split()[1] for change in touched} <= {"chatbotinstances/status", "events"}, "pods must not restart"
    assert instances.is_ready(await admin.get(instance)), "waiting for an update is no fault"
    await _ask(admin, namespace, "shop")
    server = path("StatefulSet", namespace, "shop-postgres")
    await admin.wait(server, lambda live: _image(live) == NEW["CHATBOT_POSTGRES_IMAGE"], 60, "the new image")
    await admin.wait(instance, lambda live: instances.is_ready(live) and not _pending(live), 60, "Ready and current")


async def test_a_template_that_breaks_pods_stops_at_the_first_instance(
    admin: KubeApi, namespace: str, start_operator: StartOperator
) -> None:
    old = start_operator(settings=OLD)
    names = ("one", "two")
    for name in names:
        await admin.create(manifest(namespace, name))
    for name in names:
        await wait_ready(admin, namespace, name)
    old.terminate()
    start_operator(settings=BROKEN)
    for name in names:
        await admin.wait(path("ChatbotInstance", namespace, name), _pending, what="PendingOperatorUpdate")
    for name in names:
        await _ask(admin, namespace, name)
    first = path("ChatbotInstance", namespace, "one")
    await admin.wait(first, lambda live: not instances.is_ready(live), 60, "the first breaks")
    second = path("ChatbotInstance", namespace, "two")
    await ask_for_pass(admin, namespace, "two")
    await admin.wait(second, is_answered, what="one more pass")
    images = [_image(await admin.get(path("StatefulSet", namespace, f"{name}-postgres"))) for name in names]
    assert images == [BROKEN["CHATBOT_POSTGRES_IMAGE"], OLD["CHATBOT_POSTGRES_IMAGE"]]
