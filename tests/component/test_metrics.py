"""Every metric is moved by the program and not only declared: traffic of all kinds through all commands. Needs PostgreSQL and Redis."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import get_args

import httpx
import pytest
import websockets
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.ext.asyncio import AsyncEngine

from chatbot_runtime import metrics as ours
from chatbot_runtime.api.feed import Feed
from chatbot_runtime.db.engine import Op, create_engine, transaction
from chatbot_runtime.db.metadata import metadata
from chatbot_runtime.lifecycle import Lifecycle
from chatbot_runtime.queue.states import Origin
from chatbot_runtime.scheduler.gauges import show_sizes
from chatbot_runtime.settings import Settings
from testbed.providers.cloud_api import Config, Provider, Rule
from tests.component.conftest import ACCESS_TOKEN, ADMIN_PASSWORD, APP_SECRET
from tests.component.kit import NUMBER, conversation, enqueue, phone, run
from tests.component.running import RuntimeProcess, start_fixture, wait_for, wait_until  # noqa: F401  a fixture
from tests.component.servers import Database, Postgres, Redis
from tests.support import contract_document as page

pytestmark = pytest.mark.component

OUTAGES = {"chatbot_db_connection_errors_total", "chatbot_redis_errors_total"}
"""Moved by `test_outages_move_the_counters_that_alerts_watch`."""

Start = Callable[..., RuntimeProcess]


@pytest.fixture
async def cloud() -> AsyncIterator[Provider]:
    """A provider that loses one answer and refuses one person's messages."""
    async with Provider(Config(ACCESS_TOKEN, APP_SECRET, rate=0.0)) as made:
        made._phone_number_id = NUMBER
        made.script(Rule(outcome="drop", accepted=True, to=phone(2), times=1), Rule(outcome="error", code=131016, to=phone(3)))
        yield made


async def use(app: RuntimeProcess, cloud: Provider, database: Database) -> websockets.ClientConnection:
    """Do what contacts, people and strangers do; return the dashboard's socket, still open."""
    cloud.config.webhook_url = f"{app.url}/webhooks/cloud"
    await cloud.receive(phone(1), "hola", copies=2)
    for number in (2, 3):
        await cloud.receive(phone(number), "hola")
    await cloud.receive(phone(4), "qwxyz")
    await cloud.receive(phone(5), "quiero hablar con una persona")
    async with httpx.AsyncClient(base_url=app.url, headers={"origin": app.url}) as client:
        assert (await client.post("/webhooks/cloud", content=b"{}", headers={"x-hub-signature-256": "sha256=00"})).status_code == 401
        opened = await client.post("/api/auth/login", json={"username": "admin", "password": ADMIN_PASSWORD})
        client.headers["x-csrf-token"] = opened.json()["csrfToken"]
        ticket = await client.post("/api/auth/ws-token")
        handed_over = "SELECT 1 FROM conversations WHERE mode = 'pending_human'"
        await wait_until(lambda: database.sql(handed_over), "the hand-over")
        answer = {"to": phone(5), "text": "aquí estoy"}
        assert (await client.post("/api/messages", json=answer, headers={"idempotency-key": "1"})).status_code == 202
        while (await client.post("/api/auth/login", json={"username": "nobody", "password": "a-guess"})).status_code != 429:
            pass
    socket = await websockets.connect(f"ws://127.0.0.1:{app.port}/api/ws", origin=app.url)  # type: ignore[arg-type]
    await socket.send(json.dumps({"ticket": ticket.json()["token"]}))
    await socket.recv()
    return socket


class Watch:
    """Reads all processes again and again and remembers what it has seen moved."""

    def __init__(self, *urls: str) -> None:
        self.urls = urls
        self.late = {item.name for item in vars(ours).values() if isinstance(item, ours.LateGauge)}
        self.ops: set[str] = set()
        self.still = {row.name: row for row in page.metrics() if row.name not in OUTAGES}

    def look(self) -> bool:
        """Return whether all have moved."""
        for url in self.urls:
            for family in text_string_to_metric_families(httpx.get(url, timeout=5).text):
                name = family.name + ("_total" if family.type == "counter" else "")
                row = self.still.get(name)
                self.ops |= {sample.labels["op"] for sample in family.samples if "op" in sample.labels}
                # A gauge that is exposed only when it is known says by its presence that it was set, also at 0.
                set_at_all = row is not None and row.kind == "gauge" and (row.labels or name in self.late)
                values = [sample.value for sample in family.samples if not sample.name.endswith(("_bucket", "_created"))]
                if row is not None and (any(values) or (set_at_all and values)):
                    del self.still[name]
        return not self.still and self.ops == set(get_args(Op))


async def test_traffic_moves_every_metric(start: Start, cloud: Provider, database: Database, tmp_path: Path) -> None:
    database.sql("INSERT INTO raw_events (reason, payload, received_at) VALUES ('old', '{}', now() - interval '40 days')")
    database.sql("ANALYZE")
    app = start("app")
    worker = start("worker-web", WEB_NUMBER="support", WEB_PROFILE_DIR=str(tmp_path))
    scheduler = start("scheduler", WA_API_BASE=cloud.url, BOT_QUIET_S="0", OUTBOX_MAX_ATTEMPTS="1")
    for process in (app, worker, scheduler):
        await asyncio.to_thread(process.wait_ready)
    # The app is read on its main port, where the reading itself is a request in flight.
    urls = (f"{app.url}/metrics", *(f"http://127.0.0.1:{process.metrics_port}/metrics" for process in (worker, scheduler)))
    watch = Watch(*urls)
    socket = await use(app, cloud, database)
    try:
        assert await _moved(watch), (sorted(watch.still), watch.ops)
    finally:
        await socket.close()


async def _moved(watch: Watch) -> bool:
    for _ in range(600):
        if await asyncio.to_thread(watch.look):
            return True
        await asyncio.sleep(0.05)
    return False


@pytest.mark.parametrize("role", page.LONG_RUNNING)
def test_outages_move_the_counters_that_alerts_watch(
    start: Start, tmp_path: Path, outage: Postgres, redis_outage: Redis, role: str
) -> None:
    """Nobody uses the process meanwhile: alerts on rates need counters that rise for as long as an outage lasts, without traffic."""
    process = start(role, WEB_NUMBER="support", WEB_PROFILE_DIR=str(tmp_path)).wait_ready()

    def errors(name: str) -> float:
        answer = process.probe("/metrics")
        assert answer is not None
        [family] = [item for item in text_string_to_metric_families(answer.text) if f"{item.name}_total" == name]
        return next(sample.value for sample in family.samples if sample.name == name)

    def suffer(name: str, server: Postgres | Redis) -> str:
        assert errors(name) == 0
        server.stop()
        wait_for(lambda: errors(name) >= 2, f"{name} rises")
        server.start()
        process.wait_ready()
        return name

    assert {suffer("chatbot_redis_errors_total", redis_outage), suffer("chatbot_db_connection_errors_total", outage)} == OUTAGES


def value(name: str) -> float:
    """Return a metric of this process; fails while it is unknown."""
    found = ours.REGISTRY.get_sample_value(f"chatbot_{name}")
    assert found is not None
    return found


async def test_the_wait_for_a_person_lasts_from_the_hand_over_to_their_first_message(engine: AsyncEngine) -> None:
    count, total = value("handoff_wait_seconds_count"), value("handoff_wait_seconds_sum")
    chat, with_the_bot = await conversation(engine, 1), await conversation(engine, 2)
    await run(
        engine, "UPDATE conversations SET mode = 'pending_human', mode_changed_at = now() - interval '90 seconds' WHERE id = :id", id=chat
    )
    await enqueue(engine, chat, origin=Origin.BOT)
    await enqueue(engine, with_the_bot, origin=Origin.HUMAN)  # nobody has waited there
    assert value("handoff_wait_seconds_count") == count
    for _ in range(2):
        await enqueue(engine, chat, origin=Origin.HUMAN)
    assert value("handoff_wait_seconds_count") - count == 1
    assert value("handoff_wait_seconds_sum") - total == pytest.approx(90, abs=5)


async def test_the_lag_of_a_socket_counts_how_long_a_slow_browser_takes(engine: AsyncEngine) -> None:
    count, total = value("ws_lag_seconds_count"), value("ws_lag_seconds_sum")
    lifecycle = Lifecycle(1)
    feed = Feed(engine, lifecycle)
    running = asyncio.create_task(feed.run())
    with feed.watching():
        frames = feed.frames("", -1)
        assert (await anext(frames))["kind"] == "snapshot"
        assert value("ws_lag_seconds_count") == count
        await asyncio.sleep(0.3)  # the browser takes its time over the snapshot
        await anext(frames)
    lifecycle.stopping.set()
    await running
    assert value("ws_lag_seconds_count") - count == 1
    assert 0.3 <= value("ws_lag_seconds_sum") - total < 5


async def test_the_sizes_of_tables_are_the_database_s_own_and_unknown_until_a_table_is_analysed(
    engine: AsyncEngine, database: Database
) -> None:
    database.sql("INSERT INTO raw_events (reason, payload) SELECT 'new', '{}' FROM generate_series(1, 500)")
    database.sql("ANALYZE raw_events")
    async with transaction(engine) as conn:
        await show_sizes(conn)
    rows, sizes = (
        {item.labels["table"]: item.value for item in gauge.collect()[0].samples} for gauge in (ours.TABLE_ROWS, ours.TABLE_BYTES)
    )
    [size] = database.sql("SELECT pg_total_relation_size('raw_events')")
    assert (rows["raw_events"], sizes["raw_events"]) == (500, float(size))
    assert "messages" not in rows
    assert set(sizes) == set(metadata.tables)


async def test_the_wait_for_a_connection_is_measured_and_is_not_part_of_the_transaction(settings: Settings) -> None:
    def seen() -> list[float]:
        found = (ours.REGISTRY.get_sample_value("chatbot_db_query_seconds_sum", {"op": "statuses"}), value("db_pool_wait_seconds_sum"))
        return [number or 0.0 for number in found]

    async def use_it() -> None:
        async with transaction(engine, op="statuses"):
            pass

    engine = create_engine(settings.model_copy(update={"db_pool_size": 1}))
    async with transaction(engine):
        query, wait = seen()
        waiting = asyncio.create_task(use_it())
        await asyncio.sleep(0.3)  # how long the only connection is taken
    await waiting
    after = seen()
    await engine.dispose()
    assert after[1] - wait >= 0.25
    assert after[0] - query < 0.2
