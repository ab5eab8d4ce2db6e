"""What kopf is allowed to do here, asked of its own registry and settings; and what its events do to store and queue."""

import inspect
import itertools
import ssl
from typing import Any

import kopf
import pytest
from aiohttp import web

from chatbot_operator.constants import FINALIZER
from chatbot_operator.engine.instances import InstanceStore
from chatbot_operator.engine.queue import Priority, WorkQueue
from chatbot_operator.engine.queue_metrics import WorkqueueMetrics
from chatbot_operator.engine.server import serving
from chatbot_operator.engine.store import NamespacedName
from chatbot_operator.handlers.inbox import Inbox, register
from chatbot_operator.handlers.session import watch_session
from chatbot_operator.handlers.shell import settings
from chatbot_operator.metrics import Metrics
from tests.unit.operator.engine.fakes import NAME, NAMESPACE, FakeClock, live_instance

KEY = NamespacedName(NAMESPACE, NAME)
READY = {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": "True"}]}


class World:
    def __init__(self) -> None:
        self.store = InstanceStore()
        self.clock = FakeClock()
        self.queue: WorkQueue[NamespacedName] = WorkQueue(self.clock, WorkqueueMetrics(Metrics(), "q"))
        self.heard = 0
        self.inbox = Inbox("chatbotinstances", self.store, self.queue, self._hear, self.queue.drop)

    def _hear(self) -> None:
        self.heard += 1


def test_a_new_instance_wakes_its_key_and_the_echo_of_our_write_does_not() -> None:
    world = World()
    world.inbox.deliver("ADDED", live_instance("10"))
    assert world.queue.take() == KEY
    world.queue.done(KEY)
    answer = live_instance("11", status={"observedGeneration": 1})
    world.store.put(answer)
    world.inbox.deliver("MODIFIED", answer)
    assert world.queue.take() is None


def test_a_deleted_instance_leaves_store_and_queue() -> None:
    world = World()
    world.inbox.deliver("ADDED", live_instance("10"))
    world.queue.add_after(KEY, 60)
    world.inbox.deliver("DELETED", live_instance("11"))
    assert world.store.get(KEY) is None
    assert world.queue.take() is None
    assert world.queue.next_due() is None


def test_at_start_instances_that_somebody_waits_for_come_before_those_that_were_fine() -> None:
    world = World()
    world.inbox.deliver(None, live_instance("10", status=READY))
    world.clock.advance(1)
    world.inbox.deliver(None, live_instance("11", metadata={"name": "new", "uid": "uid-new"}))
    assert [world.queue.take(), world.queue.take()] == [NamespacedName(NAMESPACE, "new"), KEY]


def test_only_events_of_the_watch_prove_that_it_is_not_deaf() -> None:
    world = World()
    world.inbox.deliver(None, live_instance("10"))
    assert world.heard == 0
    world.inbox.deliver("MODIFIED", live_instance("11"))
    assert world.heard == 1


def _registry() -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()
    register(registry, World().inbox)
    return registry


def test_kopf_has_one_handler_and_it_is_on_event() -> None:
    """Traps 2, 3, 4, 8, 9, 11, 14, 18, 20: no change detection, deletion, daemon, timer or index handler exists."""
    registry = _registry()
    assert [str(handler.id) for handler in registry._watching.get_all_handlers()] == ["chatbotinstances"]
    for others in (registry._changing, registry._spawning, registry._indexing, registry._webhooks):
        assert list(others.get_all_handlers()) == []


def test_the_one_handler_is_a_coroutine_and_registries_share_nothing() -> None:
    """Traps 13 and 26: a function would block a thread, and a handler of another registry would run here too."""
    first, second = _registry(), kopf.OperatorRegistry()
    assert all(inspect.iscoroutinefunction(handler.fn) for handler in first._watching.get_all_handlers())
    assert list(second._watching.get_all_handlers()) == []
    assert list(kopf.get_default_registry()._watching.get_all_handlers()) == []


async def test_the_handler_returns_nothing_and_touches_no_patch() -> None:
    """Trap 9: a return value would be written into the status."""
    handler = next(iter(_registry()._watching.get_all_handlers()))
    result = await handler.fn(event={"type": "ADDED", "object": live_instance()})  # type: ignore[call-arg,misc,arg-type]
    assert result is None


def test_settings_close_the_traps() -> None:
    """Traps 1, 6, 7, 10, 12, 19, 22, 27."""
    chosen = settings()
    assert chosen.scanning.disabled
    assert chosen.peering.standalone
    assert not chosen.posting.enabled
    assert chosen.persistence.finalizer not in (FINALIZER, "kopf.zalando.org/KopfFinalizerMarker")
    assert chosen.watching.server_timeout is not None
    assert chosen.watching.client_timeout is not None
    assert chosen.watching.client_timeout > chosen.watching.server_timeout
    assert chosen.watching.chunk_size
    assert max(chosen.queueing.error_delays) <= 60
    assert chosen.queueing.worker_limit is None


def test_kopf_never_gives_up_while_the_api_is_away() -> None:
    delays = settings().networking.error_backoffs
    assert not isinstance(delays, float)
    for _ in range(2):
        assert len(list(itertools.islice(iter(delays), 1000))) == 1000


def test_priorities_are_low_only_for_settled_objects_of_a_list() -> None:
    world = World()
    world.store.put(live_instance("10", status=READY))
    assert world.inbox._priority(None, KEY) is Priority.LOW
    assert world.inbox._priority("MODIFIED", KEY) is Priority.HIGH


class RotatingCredentials:
    """Credentials whose token is replaced by `reload`."""

    tls: ssl.SSLContext | bool = True
    proxy: str | None = None

    def __init__(self, host: str) -> None:
        self.host = host
        self.token = "old"
        self.reloads = 0

    async def authorization(self) -> str | None:
        return f"Bearer {self.token}"

    async def reload(self) -> None:
        self.reloads += 1
        if self.reloads >= 3:
            self.token = "new"


async def test_an_expired_token_never_reaches_kopf() -> None:
    """Trap 16: kopf ends for good when new credentials are refused like the old ones."""
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization", ""))
        return web.Response(status=200 if seen[-1] == "Bearer new" else 401)

    app = web.Application()
    app.router.add_get("/", answer)
    async with serving(app, 0) as port:
        credentials: Any = RotatingCredentials(f"http://127.0.0.1:{port}")
        async with watch_session(credentials, retry_seconds=0.001) as session, session.get(credentials.host) as response:
            assert response.status == 200
    assert seen == ["Bearer old"] * 3 + ["Bearer new"]


@pytest.mark.parametrize("count", [500])
def test_a_start_with_many_instances_queues_each_once(count: int) -> None:
    """Trap 11: a start is a list, not a storm."""
    world = World()
    for number in range(count):
        world.inbox.deliver(None, live_instance(str(number + 1), metadata={"name": f"n{number}", "uid": f"u{number}"}))
    assert world.queue.depth == count
