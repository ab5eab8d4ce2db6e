"""What the watch lost is found by a list: vanished instances leave the store, missed changes enter it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from chatbot_operator.engine.instances import InstanceStore
from chatbot_operator.engine.relist import Relist
from chatbot_operator.engine.store import NamespacedName
from chatbot_operator.errors import Forbidden
from chatbot_operator.model.objects import key_of
from tests.unit.operator.engine.fakes import NAME, NAMESPACE, FakeApi, FakeClock, live_instance

KEY = NamespacedName(NAMESPACE, NAME)


@dataclass
class Page:
    items: list[dict[str, Any]]


class ListingApi(FakeApi):
    async def list_pages(self, kind: str, namespace: str = "", *, metadata_only: bool = False) -> AsyncIterator[Page]:
        assert metadata_only
        self.requests.append(f"list {kind}")
        yield Page([live for key, live in self.objects.items() if key.kind == kind and namespace in ("", key.namespace)])


class World:
    def __init__(self) -> None:
        self.api, self.store, self.clock = ListingApi(), InstanceStore(), FakeClock()
        self.changed: list[NamespacedName] = []
        self.gone: list[NamespacedName] = []
        self.relist = Relist(
            "ChatbotInstance", self.api, self.store, self.clock, (), on_change=self.changed.append, on_gone=self.gone.append, grace=0.0
        )

    def both(self, live: dict[str, Any]) -> None:
        self.api.put(live)
        self.store.put(live)


async def test_equal_worlds_cost_one_list() -> None:
    world = World()
    world.both(live_instance("10"))
    await world.relist.compare()
    assert world.api.requests == ["list ChatbotInstance"]
    assert world.relist.deaf_at is None


async def test_an_instance_that_vanished_unseen_leaves_the_store() -> None:
    world = World()
    world.store.put(live_instance("10"))
    await world.relist.compare()
    assert world.store.get(KEY) is None
    assert world.gone == [KEY]


async def test_a_missed_change_and_a_missed_creation_wake_the_instance() -> None:
    world = World()
    world.store.put(live_instance("10"))
    world.api.put(live_instance("11", metadata={"generation": 2}))
    world.api.put(live_instance("12", metadata={"name": "new", "uid": "uid-new"}))
    await world.relist.compare()
    assert sorted(world.changed) == [NamespacedName(NAMESPACE, "new"), KEY]


async def test_an_event_that_was_only_under_way_is_no_miss() -> None:
    world = World()
    world.api.put(live_instance("11"))
    world.relist._differs = lambda *_: world.store.put(live_instance("11")) and False  # type: ignore[method-assign]
    await world.relist.compare()
    assert world.changed == []
    assert world.relist.deaf_at is None


async def test_a_watch_is_deaf_once_a_second_list_in_a_row_held_what_it_had_not_told() -> None:
    world = World()
    for name in ("one", "two"):
        world.api.put(live_instance("10", metadata={"name": name, "uid": f"uid-{name}"}))
    await world.relist.compare()
    assert len(world.changed) == 2
    assert world.relist.deaf_at is None, "one event that came late is no reason to restart"
    await world.relist.compare()
    assert world.relist.deaf_at is None, "nothing new was missed"
    world.clock.advance(600)
    world.api.put(live_instance("12", metadata={"name": "three", "uid": "uid-three"}))
    await world.relist.compare()
    assert world.relist.deaf_at == world.clock.seconds


async def test_a_watch_that_tells_again_is_not_deaf() -> None:
    world = World()
    for version in ("10", "11"):
        world.relist.watch_told()
        world.api.put(live_instance(version, metadata={"generation": int(version)}))
        await world.relist.compare()
    assert world.relist.deaf_at is None
    world.api.put(live_instance("12", metadata={"generation": 12}))
    await world.relist.compare()
    assert world.relist.deaf_at is not None
    world.relist.watch_told()
    assert world.relist.deaf_at is None


async def test_an_instance_created_while_the_list_ran_is_kept() -> None:
    world = World()

    async def pages(*_: Any, **__: Any) -> AsyncIterator[Page]:
        world.store.put(live_instance("10"))
        world.api.objects[key_of(live_instance())] = live_instance("10")
        yield Page([])

    world.api.list_pages = pages  # type: ignore[method-assign]
    await world.relist.compare()
    assert world.store.get(KEY) is not None


async def test_after_a_restored_backup_the_list_is_believed_though_it_is_older_or_holds_what_was_deleted() -> None:
    world = World()
    world.store.put(live_instance("90", metadata={"generation": 9}))
    deleted = live_instance("80", metadata={"name": "old", "uid": "uid-old"})
    world.store.put(deleted)
    world.store.remove(NamespacedName(NAMESPACE, "old"), "uid-old")
    world.api.put(live_instance("10", metadata={"generation": 1}))
    world.api.put(live_instance("11", metadata={"name": "old", "uid": "uid-old"}))
    await world.relist.compare()
    held = [world.store.get(key) for key in (KEY, NamespacedName(NAMESPACE, "old"))]
    assert [found.resource_version for found in held if found is not None] == ["10", "11"]
    assert sorted(world.changed) == [NamespacedName(NAMESPACE, "old"), KEY]


async def test_our_own_write_while_the_list_ran_is_no_reason_to_read_again() -> None:
    world = World()
    world.both(live_instance("10"))
    pages = world.api.list_pages

    async def slow(*args: Any, **options: Any) -> AsyncIterator[Page]:
        async for page in pages(*args, **options):
            yield page
        world.store.put(live_instance("11", status={"observedGeneration": 1}))

    world.api.list_pages = slow  # type: ignore[method-assign]
    await world.relist.compare()
    assert world.api.requests == ["list ChatbotInstance"]


async def test_a_namespace_that_can_not_be_listed_keeps_no_other_from_being_compared() -> None:
    world = World()
    world.store.put(live_instance("10"))
    pages = world.api.list_pages

    async def some(kind: str, namespace: str = "", **options: Any) -> AsyncIterator[Page]:
        if namespace == "gone":
            raise Forbidden("no")
        async for page in pages(kind, namespace, **options):
            yield page

    world.api.list_pages = some  # type: ignore[method-assign]
    relist = Relist(
        "ChatbotInstance",
        world.api,
        world.store,
        world.clock,
        ("gone", NAMESPACE),
        on_change=world.changed.append,
        on_gone=world.gone.append,
        grace=0.0,
    )
    await relist.compare()
    assert world.gone == [KEY]
