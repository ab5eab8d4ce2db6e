"""Pure. What is made, in which order, and what the status says on the way."""

from typing import Any

from chatbot_operator.model.effect import Apply, CreateSecret, Emit
from tests.support.simcluster import Cluster, minimal

_EARLY = {"ServiceAccount", "NetworkPolicy"}


def steps(cluster: Cluster) -> list[set[str]]:
    """Run to rest and return the names of what each pass made, without accounts and policies."""
    found = []
    for _ in range(20):
        decision = cluster.run_pass()
        made: set[Any] = {effect.request.name for effect in decision.effects if isinstance(effect, CreateSecret)}
        for effect in decision.effects:
            if isinstance(effect, Apply) and not effect.uid and effect.manifest["kind"] not in _EARLY:
                name = effect.manifest["metadata"]["name"]
                made.add(name.rpartition("-")[0].rpartition("-")[0] if effect.manifest["kind"] == "Job" else name)
        found.append(made)
        cluster.play()
    return [made for made in found if made]


def test_secrets_then_volume_then_database_then_migration_then_app_then_the_rest() -> None:
    cluster = Cluster(minimal(workerWeb={"numbers": [{"name": "one"}]}))
    assert steps(cluster) == [
        {"demo-postgres", "demo-redis", "demo-jwt", "demo-admin"},
        {"demo-pgdata-g1", "demo-redis"},
        {"demo-pg-bootstrap"},
        {"demo-postgres"},
        {"demo-migrate"},
        {"demo-app"},
        {"demo-scheduler"},
        {"demo-web-one"},
    ]


def test_accounts_and_policies_are_there_before_any_pod() -> None:
    kinds = [effect.manifest["kind"] for effect in Cluster(minimal()).run_pass().effects if isinstance(effect, Apply)]
    assert set(kinds) == _EARLY


def test_a_migration_waits_until_the_database_serves() -> None:
    cluster = Cluster(minimal())
    for _ in range(30):
        cluster.run_pass()
        cluster.play()
        server = cluster.things.get(cluster.key("StatefulSet", "demo-postgres"))
        job = [key for key in cluster.things if key.kind == "Job" and "migrate" in key.name]
        assert not job or (server is not None and server.health is not None and server.health.ready)
    assert cluster.condition("Ready") == ("True", "AllReady")


def test_the_status_of_a_ready_instance() -> None:
    cluster = Cluster(minimal())
    cluster.settle()
    status = cluster.status
    assert [(row.name, row.ready, row.replicas) for row in status.components] == [
        ("postgres", "True", "1/1"),
        ("redis", "True", "1/1"),
        ("migrate", "True", ""),
        ("app", "True", "2/2"),
        ("scheduler", "True", "1/1"),
    ]
    assert status.observed_generation == cluster.generation
    assert status.endpoints.api == "http://demo-app.chat.svc:8003"
    assert status.endpoints.admin_password_secret == "demo-admin/admin-password"
    assert (status.release.stable, status.release.schema_revision) == ("1.0.0", "0003")
    assert {condition.observed_generation for condition in status.conditions} == {1}
    assert cluster.condition("Reconciling") == ("False", "Settled")
    assert cluster.condition("Stalled") == ("False", "NotStalled")


def test_a_new_instance_costs_few_status_writes_and_one_event() -> None:
    cluster = Cluster(minimal())
    written = []
    for _ in range(20):
        before = cluster.status
        cluster.run_pass()
        written += [cluster.status] if cluster.status != before else []
        cluster.run_pass()
        cluster.play()
    assert len(written) <= 7
    assert [(event.reason, event.type.value) for event in cluster.events if isinstance(event, Emit)] == [("AllReady", "Normal")]


def test_while_it_comes_up_it_is_reconciling_not_stalled() -> None:
    cluster = Cluster(minimal())
    cluster.run_pass()
    assert cluster.condition("Ready") == ("False", "ComponentsNotReady")
    assert cluster.condition("Reconciling") == ("True", "Progressing")
    assert cluster.condition("Stalled") == ("False", "NotStalled")
    assert "postgres: Bootstrapping" in cluster.message("Ready")
