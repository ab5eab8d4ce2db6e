"""The life of one chatbot on real pods: Ready, answers, edits, drift, kills, pause, hibernation, deletion. Each test leaves it Ready."""

import json
import uuid

from testbed.api import Api
from tests.support.kubeapi import path
from tests.support.site import Admin, Site


def send_message(site: Site) -> str:
    """Queue a message as the administrator and return its id once the provider has it."""
    admin = Admin(site)
    message = {"to": "+34600999888", "text": f"kept {uuid.uuid4()}"}
    status, answer = admin.call("POST", "/api/messages", message, **{"Idempotency-Key": uuid.uuid4().hex})
    assert status == 202, answer
    site.wait("the message to be sent", lambda: admin.call("GET", f"/api/messages/{answer['id']}")[1]["sentAt"])
    return str(answer["id"])


def assert_known(site: Site, message: str) -> None:
    """Check that the database still has a message."""
    status, answer = Admin(site).call("GET", f"/api/messages/{message}")
    assert status == 200, answer
    assert answer["sentAt"]


def test_people_and_tools_can_read_that_it_is_ready(site: Site) -> None:
    assert "condition met" in site.kubectl(
        "wait", f"chatbotinstance/{site.name}", "-n", site.namespace, "--for=condition=Ready", "--timeout=5s"
    )
    header, row = site.kubectl("get", "chatbot", "-A").strip().splitlines()[:2]
    assert header.split()[:4] == ["NAMESPACE", "NAME", "READY", "REASON"]
    # A category holds several kinds, so kubectl puts the kind before each name.
    assert row.split()[:3] == [site.namespace, f"chatbotinstance.chatbotops.io/{site.name}", "True"]
    instance = site.instance()
    status = instance["status"]
    assert status["observedGeneration"] == instance["metadata"]["generation"]
    assert {each["name"]: each["ready"] for each in status["components"]}.items() >= {
        "postgres": "True",
        "redis": "True",
        "app": "True",
        "scheduler": "True",
    }.items()
    assert not any(each["status"] == "True" for each in status["conditions"] if each["type"] in ("Stalled", "Reconciling"))


def test_a_message_is_answered(site: Site) -> None:
    assert site.converse("Hola")


def test_an_edit_rolls_the_app_and_no_request_fails(site: Site) -> None:
    before = site.pods(component="app")
    with site.steady_requests() as seen:
        site.patch({"app": {"logLevel": "Debug"}})
        site.wait_ready()
        site.wait("the old pods to be gone", lambda: not set(before) & set(site.pods(component="app")))
        site.converse("Hola")
    assert seen.sent > 50
    assert seen.failures == []
    site.patch({"app": {"logLevel": None}})
    site.wait_ready()


def test_drift_is_repaired_in_both_directions(site: Site) -> None:
    deployment = path("Deployment", site.namespace, f"{site.name}-app")
    image = site.api.get(deployment)["spec"]["template"]["spec"]["containers"][0]["image"]
    for replicas in ("4", "1"):
        site.kubectl("scale", "-n", site.namespace, f"deployment/{site.name}-app", f"--replicas={replicas}")
        site.wait(f"2 replicas instead of {replicas}", lambda: site.api.get(deployment)["spec"]["replicas"] == 2, 30)
    site.kubectl("set", "image", "-n", site.namespace, f"deployment/{site.name}-app", "app=localhost/chatbot-runtime:missing")
    site.wait("the image", lambda: site.api.get(deployment)["spec"]["template"]["spec"]["containers"][0]["image"] == image, 30)
    site.kubectl("delete", "-n", site.namespace, f"service/{site.name}-app")
    site.wait("the Service to come back", lambda: site.api.exists(path("Service", site.namespace, f"{site.name}-app")), 30)
    site.wait_ready()
    assert site.converse("Hola")


def test_killed_pods_come_back_with_their_data(site: Site) -> None:
    message = send_message(site)
    for _ in range(2):
        for component in ("postgres", "redis"):
            pod = f"{site.name}-{component}-0"
            uid = site.pods(component=component)[pod][0]
            site.kubectl("delete", "pod", "-n", site.namespace, pod)
            site.wait(f"a new {pod}", lambda pod=pod, uid=uid: site.pods().get(pod, (uid, 0))[0] != uid)
            site.wait_ready()
    app = next(iter(site.pods(component="app")))
    site.kubectl("delete", "pod", "-n", site.namespace, app, "--wait=false")
    assert site.converse("Hola")
    site.wait_ready()
    assert_known(site, message)


def test_paused_changes_nothing_and_says_so(site: Site) -> None:
    site.patch({"lifecycle": "Paused"})
    site.wait_condition("Ready", "False", "Paused")
    site.kubectl("delete", "-n", site.namespace, f"service/{site.name}-app")
    site.kubectl("annotate", "-n", site.namespace, f"chatbotinstance/{site.name}", "chatbotops.io/reconcile-at=paused", "--overwrite")
    site.wait("a pass that saw it", lambda: "1 object(s) differ" in site.condition("Ready")["message"], 30)
    assert not site.api.exists(path("Service", site.namespace, f"{site.name}-app"))
    assert site.instance()["status"].get("lastHandledReconcileAt") != "paused", "what was asked for is done once something may be done"
    site.patch({"lifecycle": "Running"})
    site.wait_ready()
    assert site.instance()["status"].get("lastHandledReconcileAt") == "paused"
    assert site.converse("Hola")


def test_hibernation_stops_every_pod_and_keeps_the_data(site: Site) -> None:
    message = send_message(site)
    claims = {each["metadata"]["uid"] for each in site.list("PersistentVolumeClaim")}
    site.patch({"lifecycle": "Hibernated"})
    site.wait_condition("Ready", "False", "Hibernated")
    site.wait("no pod to be left", lambda: not site.pods())
    assert {each["metadata"]["uid"] for each in site.list("PersistentVolumeClaim")} == claims
    site.patch({"lifecycle": "Running"})
    site.wait_ready()
    assert_known(site, message)
    assert site.converse("Hola")


def test_no_secret_shows_anywhere(site: Site) -> None:
    values = {
        value for secret in site.list("Secret") for key, value in site.secret(secret["metadata"]["name"]).items() if key != "username"
    } | set(site.secret(f"{site.name}-whatsapp").values())
    assert len(values) >= 6
    shown = [json.dumps(site.instance())]
    shown += [
        json.dumps(Api(site.cluster.admin).get(path(kind, site.namespace))) for kind in ("Event", "Pod", "Job", "Deployment", "StatefulSet")
    ]
    for namespace in (site.namespace, "chatbot-operator"):
        for pod in Api(site.cluster.admin).get(path("Pod", namespace))["items"]:
            shown.append(site.kubectl("logs", "-n", namespace, pod["metadata"]["name"], "--all-containers", check=False))
    text = "\n".join(shown)
    assert len(text) > 10_000
    assert [value[:3] for value in values if value in text] == []


def test_deletion_retains_and_a_new_instance_adopts(site: Site) -> None:
    message = send_message(site)
    manifest = site.instance()
    claims = {each["metadata"]["uid"] for each in site.list("PersistentVolumeClaim")}
    secrets = {each["metadata"]["uid"] for each in site.list("Secret")}
    site.kubectl("delete", "-n", site.namespace, f"chatbotinstance/{site.name}", "--timeout=60s")
    site.wait("no workload to be left", lambda: not (site.list("Deployment") or site.list("StatefulSet") or site.pods()))
    assert {each["metadata"]["uid"] for each in site.list("PersistentVolumeClaim")} == claims
    assert {each["metadata"]["uid"] for each in site.list("Secret")} == secrets
    fresh = {key: manifest[key] for key in ("apiVersion", "kind", "spec")}
    fresh["metadata"] = {"name": site.name, "namespace": site.namespace}
    site.kubectl("apply", "-f", "-", stdin=json.dumps(fresh))
    site.wait_ready()
    assert {each["metadata"]["uid"] for each in site.list("PersistentVolumeClaim")} == claims
    assert_known(site, message)
    assert site.converse("Hola")
