"""Pure. Whatever happens on the way (crashes at any effect, lost events, edits, vandals), an instance comes to the same rest."""

from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatbot_operator.constants import ANNOTATION_SYSTEM_IDENTIFIER
from chatbot_operator.model.fingerprint import fingerprint
from tests.support.golden import bring_secrets
from tests.support.simcluster import Cluster, minimal

SPECS: tuple[dict[str, Any], ...] = (
    {},
    {"app": {"autoscaling": {"minReplicas": 2, "maxReplicas": 4}}, "deletionPolicy": "Delete"},
    {"workerWeb": {"numbers": [{"name": "one"}, {"name": "two"}]}, "cache": {"durability": "Persistent"}},
    {
        "database": {"mode": "External", "external": {"urlRef": {"name": "stores", "key": "db"}}},
        "cache": {"mode": "External", "external": {"urlRef": {"name": "stores", "key": "redis"}}},
        "app": {"replicas": 1},
    },
)

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("crash"), st.integers(0, 12)),
        st.tuples(st.just("pass"), st.just(0)),
        st.tuples(st.just("play"), st.just(0)),
        st.tuples(st.just("vandal"), st.integers(0, 40)),
        st.tuples(st.just("remove"), st.integers(0, 40)),
        st.tuples(st.just("hibernate"), st.just(0)),
        st.tuples(st.just("pause"), st.just(0)),
        st.tuples(st.just("run"), st.just(0)),
        st.tuples(st.just("fail"), st.integers(0, 3)),
        st.tuples(st.just("wait"), st.integers(1, 700)),
    ),
    max_size=40,
)
_REASONS = ("DatabaseUnreachable", "lost", "LockTimeout", "BootstrapFailed")
_PROTECTED = ("Secret", "PersistentVolumeClaim")


def fresh(index: int) -> Cluster:
    cluster = Cluster(minimal(**SPECS[index]))
    bring_secrets(cluster)
    return cluster


def do(cluster: Cluster, step: tuple[str, int]) -> None:
    """Take one step of a story."""
    what, number = step
    match what:
        case "crash":
            cluster.run_pass(crash_after=number)
        case "pass":
            cluster.run_pass()
        case "play":
            cluster.play()
        case "vandal" | "remove":
            keys = [key for key in sorted(cluster.things) if key.kind not in _PROTECTED]
            if keys and what == "remove":
                cluster.remove(keys[number % len(keys)])
            elif keys:
                body = cluster.things[keys[number % len(keys)]].body
                body["metadata"]["labels"]["app.kubernetes.io/name"] = "vandal"
                if "template" in body.get("spec", {}):
                    body["spec"]["template"]["spec"]["containers"][0]["image"] = "evil"
        case "hibernate" | "pause" | "run":
            cluster.edit(lifecycle={"hibernate": "Hibernated", "pause": "Paused", "run": "Running"}[what])
        case "fail":
            cluster.job_failures = {"migrate": _REASONS[number], "postgres-bootstrap": _REASONS[number]}
        case _:
            cluster.now += timedelta(seconds=number)


def picture(cluster: Cluster) -> dict[str, Any]:
    """Return what lives, without what chance decides: uids, random values, and Jobs, which are history."""
    found = {}
    for key, thing in sorted(cluster.things.items()):
        if key.kind in ("Job", "Secret"):
            continue
        body = {**thing.body, "metadata": {**thing.body["metadata"], "annotations": dict(thing.annotations)}}
        body["metadata"]["annotations"].pop(ANNOTATION_SYSTEM_IDENTIFIER, None)
        text = fingerprint(body)
        # Secrets are random, so are their hashes on templates; what was rendered from them is compared without.
        found[str(key)] = text if "template" not in body.get("spec", {}) else str(body["spec"].get("replicas"))
    return {"things": found, "secrets": sorted(cluster.secrets)}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(index=st.integers(0, len(SPECS) - 1), story=STEPS)
def test_every_story_ends_like_the_undisturbed_one(index: int, story: list[tuple[str, int]]) -> None:
    calm = fresh(index)
    calm.settle()
    cluster = fresh(index)
    for step in story:
        do(cluster, step)
    identifier = cluster.status.database.system_identifier
    cluster.job_failures = {}
    cluster.edit(lifecycle="Running")
    cluster.settle(passes=200)
    assert cluster.condition("Ready") == ("True", "AllReady")
    assert picture(cluster) == picture(calm)
    assert identifier in (None, cluster.status.database.system_identifier), "the database was exchanged"
    quiet = cluster.run_pass()
    assert quiet.effects == ()
    assert quiet.status == cluster.status


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    index=st.integers(0, len(SPECS) - 1), crashes=st.lists(st.integers(0, 14), max_size=25), policy=st.sampled_from(["Retain", "Delete"])
)
def test_deletion_ends_whatever_happens(index: int, crashes: list[int], policy: str) -> None:
    cluster = fresh(index)
    cluster.edit(deletionPolicy=policy)
    cluster.settle()
    data = {key for key in cluster.things if key.kind in _PROTECTED}
    cluster.deleting = True
    for crash in crashes:
        if not cluster.gone:
            cluster.run_pass(crash_after=crash)
            cluster.play()
    if not cluster.gone:
        cluster.settle()
    assert cluster.gone
    assert set(cluster.things) == (data if policy == "Retain" else set())
