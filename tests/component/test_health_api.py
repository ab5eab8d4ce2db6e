"""Health: names what is wrong and since when, answers at once, never calls the unknown healthy. Needs PostgreSQL and Redis."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from chatbot_runtime.health.board import DATABASE, Board, Finding, Status
from chatbot_runtime.health.judge import UNPAIRED, judge_bot, judge_channel, judge_queue
from chatbot_runtime.health.monitor import STALE_S, Monitor
from chatbot_runtime.queue.stats import ChannelPause, Depth, QueueStats
from tests.component.running import NUMBER_ID, Api, api_fixture  # noqa: F401  a fixture
from tests.component.servers import Database, Postgres, Redis

pytestmark = pytest.mark.component

NOW = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)


def stats(waiting: int = 0, age_s: int = 0, *, state: str = "queued", inbox_age_s: int | None = None, pause: str = "") -> QueueStats:
    depths = (Depth("cloud:1", state, 1, waiting, NOW - timedelta(seconds=age_s)),) if waiting else ()
    pauses = (ChannelPause("cloud:1", NOW + timedelta(hours=1), pause),) if pause else ()
    oldest = None if inbox_age_s is None else NOW - timedelta(seconds=inbox_age_s)
    return QueueStats(NOW, depths, 0 if inbox_age_s is None else 1, oldest, pauses)


@pytest.mark.parametrize(
    ("seen", "status", "reason"),
    [
        (stats(), Status.OK, ""),
        (stats(1000, 300), Status.OK, ""),
        (stats(1001, 1), Status.DEGRADED, "QueueDeep"),
        (stats(1, 301), Status.DEGRADED, "QueueOld"),
        (stats(5000, 9000, state="held"), Status.OK, ""),
    ],
)
def test_the_queue_is_judged_by_depth_and_age(seen: QueueStats, status: Status, reason: str) -> None:
    assert (judge_queue(seen).status, judge_queue(seen).reason) == (status, reason)


def test_a_bot_that_does_not_answer_is_degraded_whatever_its_process_says() -> None:
    assert judge_bot(stats(inbox_age_s=60)).status is Status.OK
    assert judge_bot(stats(inbox_age_s=61)).reason == "InboxOld"


def test_a_paused_channel_is_named_with_its_reason() -> None:
    assert judge_channel(stats()).status is Status.OK
    finding = judge_channel(stats(pause="token expired"))
    assert (finding.status, finding.reason) == (Status.DEGRADED, "ChannelPaused")
    assert "token expired" in finding.detail


@pytest.mark.parametrize("reason", ["token expired for 5215512345678", UNPAIRED])
async def test_which_number_and_what_the_provider_said_is_told_to_who_is_logged_in(api: Api, database: Database, reason: str) -> None:
    database.sql(f"UPDATE channels SET paused_until = 'infinity', pause_reason = '{reason}'")  # noqa: S608  values of this test
    await api.services.monitor.round()
    for path in ("/healthz", "/api/status"):
        answer = await api.client.get(path)
        assert answer.json()["components"]["channel"]["reason"] in ("ChannelPaused", "WebUnpaired")
        assert NUMBER_ID not in answer.text
        assert "5215512345678" not in answer.text
    await api.log_in()
    assert NUMBER_ID in (await api.client.get("/api/status")).json()["components"]["channel"]["message"]


class Ticking:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


async def test_since_is_the_moment_of_the_change_and_old_findings_are_not_believed() -> None:
    clock, board = Ticking(), Board()
    finding = Finding(Status.OK)

    async def probe() -> dict[str, Finding]:
        return {DATABASE: finding}

    monitor = Monitor(board, clock, [probe])
    assert monitor.overall() is Status.DOWN
    assert monitor.ready().status is Status.DOWN
    await monitor.round()
    assert monitor.ready().status is Status.OK
    clock.seconds = 10
    await monitor.round()
    component = board.get(DATABASE)
    assert component is not None
    assert component.since == NOW
    clock.seconds = 10 + STALE_S + 1
    assert monitor.overall() is Status.DOWN
    assert monitor.ready().status is Status.DOWN
    finding = Finding(Status.DOWN, "away")
    await monitor.round()
    component = board.get(DATABASE)
    assert component is not None
    assert component.since == clock.now()


async def test_healthz_has_the_contract_form(api: Api) -> None:
    answer = await api.client.get("/healthz")
    assert answer.status_code == 200
    body = answer.json()
    assert body["status"] == "ok"
    assert set(body["components"]) == {"database", "redis", "queue", "channel", "bot"}
    for component in body["components"].values():
        assert {"status", "since", "message"} <= set(component)
        datetime.fromisoformat(component["since"])


async def test_a_database_outage_is_503_and_names_the_database(api: Api, outage: Postgres) -> None:
    await asyncio.to_thread(outage.stop)
    await api.services.monitor.round()
    answer = await api.client.get("/healthz")
    assert answer.status_code == 503
    components = answer.json()["components"]
    assert components["database"]["reason"] == "DatabaseUnreachable"
    assert components["queue"]["reason"] == "NotChecked"
    assert components["redis"]["status"] == "ok"
    assert (await api.client.get("/readyz")).status_code == 503
    assert (await api.client.get("/livez")).status_code == 200
    assert (await api.client.get("/api/dashboard/snapshot")).status_code in (401, 503)


async def test_redis_down_is_degraded_and_200(api: Api, redis_outage: Redis) -> None:
    await asyncio.to_thread(redis_outage.stop)
    await api.services.monitor.round()
    answer = await api.client.get("/healthz")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert answer.json()["components"]["redis"]["reason"] == "RedisUnreachable"
    assert (await api.client.get("/readyz")).status_code == 200


async def test_an_incompatible_schema_is_not_ready(api: Api, database: Database) -> None:
    database.sql("UPDATE schema_compat SET version = 99, compatible_since = 99")
    await api.services.monitor.round()
    assert (await api.client.get("/readyz")).status_code == 503
    assert (await api.client.get("/healthz")).json()["components"]["database"]["reason"] == "SchemaIncompatible"


async def test_the_status_page_tells_who_is_logged_in_and_stays_200_in_an_outage(api: Api, outage: Postgres) -> None:
    assert (await api.client.get("/api/status")).json()["me"] is None
    await api.log_in()
    body = (await api.client.get("/api/status")).json()
    assert (body["me"]["username"], body["meKnown"]) == ("admin", True)
    await asyncio.to_thread(outage.stop)
    answer = await api.client.get("/api/status")
    assert answer.status_code == 200
    assert (answer.json()["me"], answer.json()["meKnown"]) == (None, False)


async def test_metrics_have_the_names_that_alerts_use(api: Api) -> None:
    await api.client.get("/api/status")
    text = (await api.client.get("/metrics")).text
    assert 'chatbot_http_requests_total{code="200",method="GET",route="/api/status"}' in text
    assert 'chatbot_http_request_duration_seconds_bucket{le="2.0",method="GET",route="/api/status"}' in text
    for name in ("webhook_ack_seconds_count", "db_connection_errors_total", "logins_total", "enqueue_total"):
        assert f"chatbot_{name}" in text or f"# TYPE chatbot_{name.removesuffix('_total')}" in text, name


async def test_the_snapshot_counts_what_is_there(api: Api, database: Database) -> None:
    await api.log_in()
    for key in ("a", "b"):
        message = {"to": "5215512345678", "text": key}
        assert (await api.client.post("/api/messages", json=message, headers={"idempotency-key": key})).status_code == 202
    database.sql("UPDATE outbox SET created_at = now() - interval '400 s'")
    body = (await api.client.get("/api/dashboard/snapshot")).json()
    assert body["queue"]["pending"] == 2
    assert 400 <= body["queue"]["oldestAgeSeconds"] < 500
    assert body["channels"][0]["kind"] == "cloud"
    assert body["traffic"]["windowSeconds"] == 60
    await api.services.monitor.round()
    assert (await api.client.get("/healthz")).json()["components"]["queue"]["reason"] == "QueueOld"
