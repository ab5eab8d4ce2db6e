"""What the store keeps of an instance, and which changes are a reason for a pass."""

import pytest

from chatbot_operator.constants import ANNOTATION_RECONCILE_AT, FINALIZER
from chatbot_operator.engine.instances import InstanceStore
from chatbot_operator.engine.store import NamespacedName
from tests.unit.operator.engine.fakes import NAME, NAMESPACE, UID, live_instance

KEY = NamespacedName(NAMESPACE, NAME)


@pytest.mark.parametrize(
    ("change", "matters"),
    [
        ({}, False),
        ({"metadata": {"labels": {"a": "b"}}}, False),
        ({"metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}}}, False),
        ({"metadata": {"managedFields": [{"manager": "x"}]}}, False),
        ({"metadata": {"generation": 2}}, True),
        ({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, True),
        ({"metadata": {"finalizers": [FINALIZER]}}, True),
        ({"metadata": {"annotations": {ANNOTATION_RECONCILE_AT: "now"}}}, True),
        ({"status": {"operatorVersion": "9"}}, True),
        ({"metadata": {"uid": "uid-2"}}, True),
    ],
)
def test_only_what_decisions_read_is_a_reason_for_a_pass(change: dict[str, object], matters: bool) -> None:
    store = InstanceStore()
    assert store.put(live_instance("10")) is True
    assert store.put(live_instance("11", **change)) is matters
    found = store.get(KEY)
    assert found is not None
    assert found.resource_version == "11"  # kept fresh for the status write, whether it mattered or not


def test_the_echo_of_our_own_status_write_is_no_reason() -> None:
    store = InstanceStore()
    store.put(live_instance("10"))
    answer = live_instance("11", status={"observedGeneration": 1})
    store.put(answer)
    assert store.put(answer) is False


@pytest.mark.parametrize("version", ["9", "10"])
def test_an_older_version_never_replaces_a_newer_one(version: str) -> None:
    store = InstanceStore()
    store.put(live_instance("10", metadata={"generation": 7}))
    assert store.put(live_instance(version)) is False
    found = store.get(KEY)
    assert found is not None
    assert found.read()["metadata"]["generation"] == 7


def test_a_late_answer_does_not_bring_a_deleted_instance_back() -> None:
    store = InstanceStore()
    store.put(live_instance("10"))
    assert store.remove(KEY, UID) is True
    assert store.put(live_instance("12")) is False
    assert store.get(KEY) is None


def test_the_deletion_of_an_old_instance_spares_its_successor() -> None:
    store = InstanceStore()
    store.put(live_instance("10"))
    store.put(live_instance("12", metadata={"uid": "uid-2"}))
    assert store.remove(KEY, UID) is False
    found = store.get(KEY)
    assert found is not None
    assert found.uid == "uid-2"


def test_settled_means_ready_at_its_generation_and_nothing_asked_for() -> None:
    ready = {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": "True"}]}
    cases = {
        True: [live_instance(status=ready)],
        False: [
            live_instance(),
            live_instance(status=ready, metadata={"generation": 2}),
            live_instance(status=ready, metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}),
            live_instance(status=ready, metadata={"annotations": {ANNOTATION_RECONCILE_AT: "now"}}),
            live_instance(status={**ready, "conditions": [{"type": "Ready", "status": "Unknown"}]}),
        ],
    }
    for settled, instances in cases.items():
        for live in instances:
            store = InstanceStore()
            store.put(live)
            found = store.get(KEY)
            assert found is not None
            assert found.settled is settled


def test_a_stored_instance_is_small() -> None:
    store = InstanceStore()
    noise = {"managedFields": [{"fieldsV1": "x" * 20000}], "annotations": {"last-applied": "x" * 20000}}
    store.put(live_instance(metadata=noise))
    found = store.get(KEY)
    assert found is not None
    assert len(found.body) < 1024


def test_a_read_that_was_overtaken_by_the_watch_is_not_believed() -> None:
    store = InstanceStore()
    store.put(live_instance("10"))
    held = store.get(KEY)
    store.put(live_instance("12", metadata={"generation": 2}))
    assert store.believe(live_instance("11"), held) is False
    store.remove(KEY, UID)
    assert store.believe(live_instance("11"), held) is False
    assert store.get(KEY) is None
