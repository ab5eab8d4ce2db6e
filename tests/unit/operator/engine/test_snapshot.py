"""When the namespace is asked whether it ends: a volume that goes with its namespace is no loss of data."""

from types import MappingProxyType
from typing import Any

import pytest

from chatbot_operator.api.v1alpha1.instance_status import ChatbotInstanceStatus, DatabaseStatus
from chatbot_operator.engine.contest import Contests
from chatbot_operator.engine.instances import InstanceStore
from chatbot_operator.engine.restarts import RestartSlots
from chatbot_operator.engine.snapshot import Observer
from chatbot_operator.engine.store import NamespacedName
from chatbot_operator.model.objects import ChildState, Health, ObjectKey
from chatbot_operator.model.snapshot import OperatorFacts, Snapshot
from tests.unit.operator.engine.fakes import NAME, NAMESPACE, FakeClock, FakeNamespaces, FakeSecrets, live_instance

CLAIM = ObjectKey("PersistentVolumeClaim", NAMESPACE, f"{NAME}-pgdata-g1")
KNOWN = ChatbotInstanceStatus(database=DatabaseStatus(volume_uid="claim-uid"))


class Children:
    def __init__(self, *found: ChildState) -> None:
        self.found = {child.key: child for child in found}

    def children(self, namespace: str, name: str) -> dict[Any, Any]:
        return self.found


def claim(*, deleting: bool) -> ChildState:
    empty: MappingProxyType[str, str] = MappingProxyType({})
    health = Health(ready=True, reason="Bound")
    return ChildState(CLAIM, "claim-uid", "1", "", NAME, "uid-1", "", deleting=deleting, health=health, labels=empty, details=empty)


async def observe(children: Children, status: ChatbotInstanceStatus) -> Snapshot:
    clock, store, namespaces = FakeClock(), InstanceStore(), FakeNamespaces()
    namespaces.answer = True
    live = live_instance()
    live["status"] = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    store.put(live)
    key = NamespacedName(NAMESPACE, NAME)
    instance = store.get(key)
    assert instance is not None
    observer = Observer(
        children,
        FakeSecrets(),
        namespaces,
        lambda name, spec: (),
        lambda name, spec: (),
        Contests(clock),
        RestartSlots(store, "1", 1),
        OperatorFacts("1", "p", "r"),
        clock,
    )
    return await observer.observe(key, instance, ())


@pytest.mark.parametrize(
    ("children", "status", "asked"),
    [
        (Children(claim(deleting=False)), KNOWN, False),
        (Children(claim(deleting=True)), KNOWN, True),
        (Children(), KNOWN, True),
        (Children(), ChatbotInstanceStatus(), False),
    ],
    ids=["bound", "going", "gone", "never made"],
)
async def test_a_known_volume_that_goes_asks_whether_the_namespace_goes(
    children: Children, status: ChatbotInstanceStatus, *, asked: bool
) -> None:
    assert (await observe(children, status)).namespace_terminating is (True if asked else None)
