"""Stores that somebody else runs: a wrong password is told by component and cause, touches nothing else, and heals by itself."""

import json
from typing import Any

import pytest

from testbed.api import Api
from testbed.demo import find_condition
from tests.support.cluster import Cluster
from tests.support.kubeapi import path
from tests.support.site import Admin, Site, apply_instance

STORES = "stores"
PASSWORD = "right-9d1c4a7be2f04c53"
WRONG = "wrong-3fb82e6d70a94d18"
_POSTGRES = """set -e
initdb -D /data/pg -U owner -A scram-sha-256 --pwfile=<(printf %s "$PASSWORD") > /dev/null
echo "host all all all scram-sha-256" >> /data/pg/pg_hba.conf
postgres --single -D /data/pg postgres > /dev/null <<END
CREATE ROLE chatbot LOGIN PASSWORD '$PASSWORD'
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO chatbot
END
exec postgres -D /data/pg -c listen_addresses='*' -c unix_socket_directories=/tmp
"""
"""With the two roles and the one grant that `manifests/samples/external-services.yaml` speaks of."""
_CACHE = 'exec valkey-server --dir /data --save "" --requirepass "$PASSWORD"'


def render_container(name: str, image: str, uid: int, port: int, script: str) -> dict[str, Any]:
    """Return the container of a store."""
    return {
        "name": name,
        "image": image,
        "command": ["bash", "-c", script],
        "env": [{"name": "PASSWORD", "value": PASSWORD}],
        "ports": [{"containerPort": port}],
        "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
        "volumeMounts": [{"name": name, "mountPath": "/data"}],
        "securityContext": {"runAsUser": uid, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }


@pytest.fixture
def stores(quickstart: Site, namespace: str) -> str:
    """A PostgreSQL and a Redis that no operator knows, of the images that the node has; returns the host's name."""
    postgres, redis = (
        quickstart.list("StatefulSet", component=component)[0]["spec"]["template"]["spec"]["containers"][0]["image"]
        for component in ("postgres", "redis")
    )
    labels = {"app": STORES}
    pod = {
        "securityContext": {"runAsNonRoot": True, "fsGroup": 10002, "seccompProfile": {"type": "RuntimeDefault"}},
        "automountServiceAccountToken": False,
        "containers": [
            render_container("postgres", postgres, 10002, 5432, _POSTGRES),
            render_container("redis", redis, 10003, 6379, _CACHE),
        ],
        "volumes": [{"name": "postgres", "emptyDir": {}}, {"name": "redis", "emptyDir": {}}],
    }
    ports = [{"name": f"p{port}", "port": port} for port in (5432, 6379)]
    for manifest in (
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": STORES, "labels": labels}, "spec": pod},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": STORES}, "spec": {"selector": labels, "ports": ports}},
    ):
        quickstart.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(manifest))
    quickstart.kubectl("wait", "-n", namespace, f"pod/{STORES}", "--for=condition=Ready", "--timeout=60s")
    return f"{STORES}.{namespace}.svc"


def save_urls(site: Site, host: str, *, database: str, cache: str) -> None:
    """Write the Secret of both URLs with these passwords."""
    urls = {
        "database-url": f"postgresql://chatbot:{database}@{host}:5432/postgres",
        "migration-url": f"postgresql://owner:{database}@{host}:5432/postgres",
        "redis-url": f"redis://:{cache}@{host}:6379/0",
    }
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "external"}, "stringData": urls}
    site.kubectl("apply", "-n", site.namespace, "-f", "-", stdin=json.dumps(secret))


def health(site: Site) -> dict[str, Any]:
    """Return the components of the app's own report."""
    status, content = site.http("GET", "/healthz")
    assert status == 200, content
    components: dict[str, Any] = json.loads(content)["components"]
    return components


def test_a_wrong_password_is_named_and_the_right_one_is_found_by_itself(
    quickstart: Site, cluster: Cluster, namespace: str, stores: str
) -> None:
    neighbours = quickstart.pods()
    save_urls(Site(cluster, namespace, "external"), stores, database=WRONG, cache=WRONG)
    database, migration, cache = ({"name": "external", "key": key} for key in ("database-url", "migration-url", "redis-url"))
    spec = {
        "app": {"replicas": 1},
        "database": {"mode": "External", "external": {"urlRef": database, "migrationUrlRef": migration}},
        "cache": {"mode": "External", "external": {"urlRef": cache}},
    }
    site = apply_instance(cluster, namespace, "external", spec)

    seen: list[dict[str, Any]] = []

    def told() -> bool:
        seen[:] = [site.instance()]
        return "migrate: DatabaseUnreachable" in find_condition(seen[0], "Ready").get("message", "")

    site.wait("the cause", told, 60)
    found = {each["type"]: each for each in seen[0]["status"]["conditions"]}
    assert found["Ready"]["status"] == "False"
    assert "password" in found["Ready"]["message"]
    assert (found["DatabaseReady"]["status"], found["DatabaseReady"]["reason"]) == ("False", "Unreachable")
    assert found["Stalled"]["status"] == "False", "it may pass by itself"
    assert not any(site.list(kind) for kind in ("Deployment", "StatefulSet", "PersistentVolumeClaim")), (
        "nothing may start before the schema"
    )

    save_urls(site, stores, database=PASSWORD, cache=WRONG)
    site.wait_ready(90)
    assert site.condition("DatabaseReady")["status"] == "True"
    assert not site.condition("CacheReady"), "nobody can tell from outside"
    assert not site.list("StatefulSet")
    site.wait("the cause", lambda: health(site)["redis"]["reason"] == "RedisUnreachable", 30)
    assert health(site)["database"]["status"] == "ok"
    assert Admin(site).call("GET", "/api/status")[1]["me"]["username"] == "admin", "it works without a cache"

    pods = site.pods()
    cli = f'REDISCLI_AUTH="{PASSWORD}" valkey-cli --no-auth-warning config set requirepass {WRONG}'
    site.kubectl("exec", "-n", namespace, STORES, "-c", "redis", "--", "bash", "-c", cli)
    site.wait("the cache to be found", lambda: health(site)["redis"]["status"] == "ok", 30)
    assert site.pods() == pods
    assert quickstart.pods() == neighbours
    shown = json.dumps([site.instance(), Api(cluster.admin).get(path("Event", namespace)), Api(cluster.admin).get(path("Job", namespace))])
    assert PASSWORD not in shown
    assert WRONG not in shown
