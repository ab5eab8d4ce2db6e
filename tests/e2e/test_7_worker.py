"""A WhatsApp Web number and a Persistent cache: what their pods say of themselves, what they keep through restarts, and how they go."""

import http.client
import json
from typing import Any, Final

import pytest

from tests.support.cluster import Cluster
from tests.support.kubeapi import path
from tests.support.site import Admin, Site, apply_instance

NAME: Final = "webbot"
POSTGRES, REDIS, WORKER = f"{NAME}-postgres-0", f"{NAME}-redis-0", f"{NAME}-web-sales-0"
CLAIMS: Final = {f"{NAME}-pgdata-g1", f"{NAME}-redis-data", f"{NAME}-web-sales"}
METRICS_PORT: Final = 9103
_CLI: Final = 'REDISCLI_AUTH="$(cat /run/secrets/chatbot/redis-password)" valkey-cli --no-auth-warning'


@pytest.fixture
def site(quickstart: Site, cluster: Cluster, namespace: str) -> Site:
    """An instance with one number, Ready."""
    spec = {
        "deletionPolicy": "Delete",
        "app": {"replicas": 1},
        "database": {"storage": {"size": "1Gi"}},
        "cache": {"durability": "Persistent"},
        "workerWeb": {"numbers": [{"name": "sales", "sessionStorage": "1Gi"}]},
    }
    site = apply_instance(cluster, namespace, NAME, spec)
    site.wait_ready()
    return site


def execute(site: Site, pod: str, script: str) -> str:
    """Run a line of shell in a pod."""
    return site.kubectl("exec", "-n", site.namespace, pod, "--", "sh", "-c", script).strip()


def readiness(site: Site) -> tuple[int, str]:
    """Return status and sentence of the worker's own probe."""
    [pod] = [each for each in site.list("Pod", component="worker-web") if "deletionTimestamp" not in each["metadata"]]
    connection = http.client.HTTPConnection(pod["status"]["podIP"], METRICS_PORT, timeout=10)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return answer.status, str(json.loads(answer.read())["message"])
    finally:
        connection.close()


def channel(site: Site) -> tuple[str, str]:
    """Return status and reason of the channels in the app's own report."""
    found = json.loads(site.http("GET", "/healthz")[1])["components"]["channel"]
    return found["status"], found["reason"]


def say_unpaired(site: Site) -> None:
    """Check that a worker which runs is shown to run, and that nobody takes its number for paired."""
    # It is not ready without its database, and looks for it every few seconds.
    site.wait("the worker to find its database", lambda: readiness(site)[0] == 200, 30)
    assert readiness(site)[1].startswith("Unpaired: ")
    assert "nothing about pairing" in site.wait_condition("WorkerReady", "True", seconds=30)["message"]
    header, row = site.kubectl("get", "cbi", "-n", site.namespace, NAME).strip().splitlines()
    assert dict(zip(header.split(), row.split(), strict=True))["WORKER"] == "True"
    site.wait("the app to tell", lambda: channel(site) == ("degraded", "WebUnpaired"), 30)


def leave_marks(site: Site) -> str:
    """Put something into each store; returns the id of a message, which waits for a number that can send."""
    message = {"to": "+34600999888", "text": "kept", "channel": "web:sales"}
    status, answer = Admin(site).call("POST", "/api/messages", message, **{"Idempotency-Key": "kept"})
    assert status == 202, answer
    assert execute(site, REDIS, f"{_CLI} set e2e kept") == "OK"
    execute(site, WORKER, "echo kept > /var/lib/chatbot/profile/e2e")
    return str(answer["id"])


def find_marks(site: Site, message: str) -> None:
    """Check that each store still has what was put there."""
    status, answer = Admin(site).call("GET", f"/api/messages/{message}")
    assert status == 200, answer
    assert answer["sentAt"] is None, "an unpaired number sends nothing"
    assert execute(site, REDIS, f"{_CLI} get e2e") == "kept"
    assert execute(site, WORKER, "cat /var/lib/chatbot/profile/e2e") == "kept"


def is_ready(pod: dict[str, Any]) -> bool:
    """Return whether a pod is ready and stays."""
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def replace_pods(site: Site, *pods: str, evict: bool) -> None:
    """Delete pods at once, or evict them as a drain of their node does, and wait for their successors."""
    before = site.pods()
    for pod in pods:
        target = path("Pod", site.namespace, pod)
        if evict:
            eviction: dict[str, Any] = {
                "apiVersion": "policy/v1",
                "kind": "Eviction",
                "metadata": {"name": pod, "namespace": site.namespace},
            }
            site.api.create(f"{target}/eviction", eviction)
        else:
            site.api.delete(target)

    def replaced() -> bool:
        found = {each["metadata"]["name"]: each for each in site.list("Pod")}
        return all(pod in found and found[pod]["metadata"]["uid"] != before[pod][0] and is_ready(found[pod]) for pod in pods)

    # The instance may still be told Ready by what was before.
    site.wait("new pods", replaced, 45)
    site.wait_ready(45)


def test_stateful_pods_keep_their_data_and_a_number_that_is_no_longer_wanted_goes(site: Site) -> None:
    say_unpaired(site)
    message = leave_marks(site)
    for evict in (False, True):
        # The worker first and in much less than a minute: it gives its lease back at SIGTERM, while the database is there.
        replace_pods(site, WORKER, evict=evict)
        replace_pods(site, POSTGRES, REDIS, evict=evict)
        find_marks(site, message)
        say_unpaired(site)

    site.patch({"workerWeb": {"numbers": []}})
    site.wait_ready(60)
    assert not site.list("StatefulSet", component="worker-web")
    site.wait("its last pod to have drained", lambda: not site.list("Pod", component="worker-web"), 30)
    assert not site.condition("WorkerReady")
    assert {each["metadata"]["name"] for each in site.list("PersistentVolumeClaim")} == CLAIMS, "a profile is a pairing: it is kept"

    site.kubectl("delete", "-n", site.namespace, f"chatbotinstance/{NAME}", "--timeout=90s")
    site.wait(
        "nothing to be left", lambda: not any(site.list(kind) for kind in ("PersistentVolumeClaim", "Secret", "Pod", "StatefulSet")), 60
    )
