"""What counts as a database that can't be used now, with its reason, and what is a fault of ours instead. Needs PostgreSQL and Redis."""

import re
from collections.abc import Callable

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from chatbot_runtime.db.engine import create_engine, transaction
from chatbot_runtime.db.schema_queue import messages
from chatbot_runtime.health.board import DATABASE, Status
from chatbot_runtime.health.probes import DatabaseProbe
from chatbot_runtime.settings import Settings
from tests.component.running import (
    Api,
    RuntimeProcess,
    api_fixture,  # noqa: F401  a fixture
    signed,
    start_fixture,  # noqa: F401  a fixture
    text_webhook,
    wait_for,
)
from tests.component.servers import APP, Database

pytestmark = pytest.mark.component

WRONG = "wrong-7c1f9d3b"


@pytest.mark.parametrize(
    ("pattern", "replacement", "reason"),
    [(rf"//{APP}:[^@]+@", f"//{APP}:{WRONG}@", "DatabaseRefusesLogin"), (r"/[^/]+$", "/nowhere", "DatabaseMissing")],
)
async def test_a_server_that_refuses_us_is_down_with_its_reason(
    database: Database, settings: Settings, pattern: str, replacement: str, reason: str
) -> None:
    url = Settings(database_url=re.sub(pattern, replacement, database.url())).database_url
    engine = create_engine(settings.model_copy(update={"database_url": url}))
    finding = (await DatabaseProbe(engine, contents=False)())[DATABASE]
    await engine.dispose()
    assert (finding.status, finding.reason) == (Status.DOWN, reason)
    assert WRONG not in finding.message


def test_a_process_with_a_wrong_password_lives_and_names_it(start: Callable[..., RuntimeProcess]) -> None:
    app = start("app", DATABASE_PASSWORD=WRONG).wait_live()
    wait_for(lambda: app.died() or app.events("component"), "the first round of probes")
    assert not app.died(), app.output()
    answer = app.probe("/readyz")
    assert answer is not None
    assert answer.status_code == 503
    assert "password" in answer.json()["message"]


async def test_a_read_only_database_is_not_ready_and_webhooks_stay_with_the_provider(api: Api, database: Database) -> None:
    def read_only(value: str) -> None:
        database.server.sql(f"ALTER DATABASE {database.name} SET default_transaction_read_only = {value}")

    body = text_webhook(("wamid.1", "hola"))
    read_only("on")
    await api.services.engine.dispose()  # as after a switch of servers: the setting counts for new connections
    assert (await api.client.post("/webhooks/cloud", content=body, headers=signed(body))).json()["type"].endswith(":database-down")
    await api.services.monitor.round()
    assert (await api.client.get("/readyz")).status_code == 503
    assert (await api.client.get("/healthz")).json()["components"]["database"]["reason"] == "DatabaseReadOnly"
    read_only("off")
    await api.services.monitor.round()
    assert (await api.client.get("/readyz")).status_code == 200
    assert (await api.client.post("/webhooks/cloud", content=body, headers=signed(body))).status_code == 200
    assert database.sql("SELECT provider_message_id FROM messages") == ["wamid.1"]


@pytest.mark.parametrize(("role", "table"), [("app", "outbox"), ("app", "schema_compat"), ("scheduler", "schema_compat")])
def test_a_role_that_lacks_a_right_is_named_and_ends_no_process(
    start: Callable[..., RuntimeProcess], database: Database, role: str, table: str
) -> None:
    process = start(role).wait_ready()
    database.sql(f"REVOKE SELECT ON {table} FROM {APP}")  # noqa: S608  values of this test
    refused = wait_for(lambda: process.died() or ((answer := process.probe("/readyz")) and answer.status_code == 503 and answer), "503")
    assert not process.died(), process.output()
    assert "GRANT SELECT" in refused.json()["message"]
    assert process.probe("/livez").status_code == 200  # type: ignore[union-attr]
    if role == "app":
        assert httpx.get(f"{process.url}/healthz").json()["components"]["database"]["reason"] == "DatabaseRefusesRights"
    database.sql(f"GRANT SELECT ON {table} TO {APP}")
    process.wait_ready()


def test_work_without_a_right_that_no_probe_needs_waits_and_says_so_once(start: Callable[..., RuntimeProcess], database: Database) -> None:
    scheduler = start("scheduler").wait_ready()
    database.sql(f"REVOKE SELECT ON status_inbox FROM {APP}")  # noqa: S608  values of this test
    wait_for(lambda: scheduler.died() or scheduler.events("work_waits"), "the work waits")
    assert not scheduler.died(), scheduler.output()
    [line] = scheduler.events("work_waits")
    assert (line["work"], line["level"]) == ("statuses", "warning")
    assert "GRANT SELECT" in line["reason"]
    database.sql(f"GRANT SELECT ON status_inbox TO {APP}")
    database.sql("INSERT INTO status_inbox (channel_id, provider_message_id, status, error, at) VALUES ('cloud:1', 'x', 'sent', '', now())")
    wait_for(lambda: database.sql("SELECT 1 FROM status_inbox WHERE next_at > received_at"), "the status is looked at")


async def test_whatever_error_the_database_gives_a_probe_is_a_finding(engine: AsyncEngine, database: Database) -> None:
    database.sql("ALTER TABLE inbox RENAME COLUMN received_at TO taken_at")
    finding = (await DatabaseProbe(engine, contents=True)())[DATABASE]
    assert (finding.status, finding.reason) == (Status.DOWN, "DatabaseCheckFailed")
    assert "UndefinedColumnError" in finding.message
    assert "received_at" not in finding.message


async def test_a_statement_that_the_driver_refuses_is_a_fault_of_ours(engine: AsyncEngine) -> None:
    too_many = sa.select(messages.c.id).where(sa.literal(1).in_(range(40_000)))
    with pytest.raises(DBAPIError, match="cannot exceed"):
        async with transaction(engine) as conn:
            await conn.execute(too_many)
