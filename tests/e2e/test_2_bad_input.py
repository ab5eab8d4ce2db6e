"""What goes wrong is said by name, touches nothing else, and heals when its cause goes."""

import hashlib
import hmac
import http.client
import json

from testbed.demoprovider import ProviderClient
from testbed.providers.cloud_wire import make_wamid, render_event, render_text
from tests.support.cluster import Cluster
from tests.support.kubeapi import path
from tests.support.site import APP_PORT, Site, apply_instance

SMALL = {"app": {"replicas": 1}, "database": {"storage": {"size": "1Gi"}}}


def test_missing_secret_is_named_and_heals_by_itself(quickstart: Site, cluster: Cluster, namespace: str) -> None:
    site = apply_instance(cluster, namespace, "needs-secret", {**SMALL, "secrets": {"jwt": {"name": "my-auth", "key": "jwt"}}})
    ready = site.wait_condition("Ready", "False", "DependencyMissing", 120)
    assert "my-auth" in ready["message"]
    site.kubectl("create", "secret", "generic", "my-auth", "-n", namespace, "--from-literal=jwt=7c1f0e5a9b3d48627f0e1d2c3b4a5968")
    site.wait_ready()


def test_missing_image_names_component_and_cause(quickstart: Site, cluster: Cluster, namespace: str) -> None:
    release = {"version": "9.9.9", "image": "localhost/chatbot-runtime:nowhere", "tagPolicy": "Allow"}
    site = apply_instance(cluster, namespace, "no-image", {**SMALL, "release": release})
    site.wait("a condition that names the image", lambda: "nowhere" in json.dumps(site.condition("Ready")), 180)
    assert site.condition("Ready")["status"] == "False"
    assert site.instance()["status"].get("release", {}).get("stable") is None


def test_lost_volume_is_never_replaced_by_an_empty_one(quickstart: Site, cluster: Cluster, namespace: str) -> None:
    site = apply_instance(cluster, namespace, "loses-volume", SMALL)
    site.wait_ready()
    claim = f"{site.name}-pgdata-g1"
    uid = site.api.get(path("PersistentVolumeClaim", namespace, claim))["metadata"]["uid"]
    site.kubectl("delete", "pvc", "-n", namespace, claim, "--wait=false")
    site.kubectl("delete", "pod", "-n", namespace, f"{site.name}-postgres-0", "--wait=false")
    stalled = site.wait_condition("Stalled", "True", "DataLossSuspected", 120)
    assert claim in stalled["message"]
    assert site.condition("Ready")["status"] == "False"
    found = [each["metadata"] for each in site.list("PersistentVolumeClaim") if each["metadata"]["name"] == claim]
    assert all(each["uid"] == uid for each in found), "an empty volume took the place of the lost one"


def signed(site: Site, body: bytes) -> dict[str, str]:
    """Return the headers of a delivery as the provider signs it."""
    key = site.secret(f"{site.name}-whatsapp")["app-secret"].encode()
    digest = hmac.new(key, body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={digest}", "Content-Type": "application/json"}


def post(address: str, body: bytes, headers: dict[str, str]) -> int:
    """Deliver a webhook and return the status, 413 also when the server hung up on a body that it refused to read."""
    connection = http.client.HTTPConnection(address, APP_PORT, timeout=15)
    try:
        connection.request("POST", "/webhooks/cloud", body, headers)
        return connection.getresponse().status
    except (BrokenPipeError, ConnectionResetError):
        assert len(body) > 3_000_000
        return 413
    finally:
        connection.close()


def inbound(sender: str) -> bytes:
    """Return the body of a webhook with one text."""
    value = render_text(sender, "Hola", message_id=make_wamid(sender), name="Ana")
    return json.dumps(render_event("100000000000001", "15550783881", value)).encode()


def test_webhooks_that_are_refused_lose_no_good_message(site: Site) -> None:
    good = inbound("34600333444")
    assert post(site.address, good, {**signed(site, good), "X-Hub-Signature-256": "sha256=" + "0" * 64}) == 401
    assert post(site.address, b"not json", signed(site, b"not json")) == 400
    large = b"x" * 10_000_000
    assert post(site.address, large, signed(site, large)) == 413
    assert [post(site.address, good, signed(site, good)) for _ in range(3)] == [200, 200, 200]
    provider = ProviderClient(site.api, site.namespace)
    site.wait("one answer", lambda: len([each for each in provider.messages() if each["to"] == "34600333444"]) > 0, 60)
    assert site.converse("Hola", sender="34600333444")
    answers = [each for each in provider.messages() if each["to"] == "34600333444"]
    assert len(answers) == 2, "a replayed message was answered more than once"


def test_database_down_makes_the_provider_keep_its_message(site: Site) -> None:
    app = site.pods(component="app")
    good = inbound("34600555666")
    site.patch({"lifecycle": "Paused"})
    site.wait_condition("Ready", "False", "Paused")
    site.kubectl("scale", "-n", site.namespace, f"statefulset/{site.name}-postgres", "--replicas=0")
    # A pod that is only being deleted still takes messages.
    gone = f"{site.name}-postgres-0"
    site.wait("the database to be gone", lambda: all(each["metadata"]["name"] != gone for each in site.list("Pod")))
    addresses = [each["status"]["podIP"] for each in site.list("Pod", component="app") if "deletionTimestamp" not in each["metadata"]]
    assert [post(address, good, signed(site, good)) for address in addresses] == [503, 503]
    site.patch({"lifecycle": "Running"})
    site.wait_ready()
    # As the provider does: again, until it is taken.
    site.wait("the message to be taken", lambda: post(site.address, good, signed(site, good)) == 200, 30)
    provider = ProviderClient(site.api, site.namespace)
    site.wait("the answer", lambda: any(each["to"] == "34600555666" for each in provider.messages()), 60)
    assert site.pods(component="app") == app, "an outage of the database restarted the app"
