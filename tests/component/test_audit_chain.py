"""The audit chain on a real database: sealed once, and tampering shows, also by the owner of the tables. Needs PostgreSQL."""

import asyncio

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from chatbot_runtime.audit.events import AuditEvent, record
from chatbot_runtime.audit.sealer import Sealed, seal_once
from chatbot_runtime.audit.verify import verify_chain
from chatbot_runtime.db.engine import transaction
from tests.component.kit import rows
from tests.component.servers import Database

pytestmark = pytest.mark.component


async def write(engine: AsyncEngine, count: int) -> None:
    async with transaction(engine) as conn:
        for number in range(count):
            await record(conn, AuditEvent("test.event", "ok", details={"number": number, "text": "ñ\u2028", "float": 0.1}))


async def seal(engine: AsyncEngine) -> Sealed:
    async with transaction(engine) as conn:
        return await seal_once(conn)


async def verify(engine: AsyncEngine, anchor: tuple[int, str] | None = None) -> str:
    async with transaction(engine) as conn:
        return (await verify_chain(conn, anchor=anchor)).problem


async def test_events_are_sealed_once_by_however_many_sealers(engine: AsyncEngine) -> None:
    await write(engine, 20)
    done = await asyncio.gather(*(seal(engine) for _ in range(4)))
    assert sum(item.count for item in done) == 20
    assert await verify(engine) == ""
    assert await rows(engine, "SELECT count(*), max(seq) FROM audit_seals") == [(20, 20)]


async def test_an_event_of_a_transaction_that_commits_late_is_sealed_later(engine: AsyncEngine) -> None:
    async with transaction(engine) as late:
        await record(late, AuditEvent("test.late", "ok"))
        await write(engine, 2)
        assert (await seal(engine)).count == 2
    assert (await seal(engine)).count == 1
    assert await verify(engine) == ""


@pytest.mark.parametrize(
    ("tampering", "problem"),
    [
        ("UPDATE audit_events SET actor = 'mallory' WHERE id = 3", "seal 3 does not match"),
        ("DELETE FROM audit_seals WHERE seq = 3", "seal 3 is missing"),
        ("DELETE FROM audit_seals WHERE event_id = 3; DELETE FROM audit_events WHERE id = 3", "seal 3 is missing"),
        ("UPDATE audit_events SET at = at - interval '1 hour' WHERE id = 5", "seal 5 does not match"),
        ("DELETE FROM audit_seals WHERE seq > 3", "ends at 3"),
    ],
)
async def test_tampering_by_somebody_who_can_disable_triggers_shows(
    engine: AsyncEngine, database: Database, tampering: str, problem: str
) -> None:
    await write(engine, 5)
    sealed = await seal(engine)
    database.sql(f"SET session_replication_role = replica; {tampering}")
    assert problem in await verify(engine, (sealed.seq, sealed.head))


async def test_an_event_that_hides_from_the_sealer_shows(engine: AsyncEngine, database: Database) -> None:
    await write(engine, 2)
    await seal(engine)
    database.sql(
        "INSERT INTO audit_events (at, actor_kind, actor, action, outcome) VALUES (now() - interval '1 hour', 'system', '', 'x.y', 'ok')"
    )
    database.sql("DELETE FROM audit_unsealed")
    assert "1 events are older" in await verify(engine)


@pytest.mark.parametrize("table", ["audit_events", "audit_seals"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET at = now()", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
async def test_not_even_the_owner_changes_the_trail_in_passing(
    owner_engine: AsyncEngine, engine: AsyncEngine, table: str, statement: str
) -> None:
    await write(engine, 1)
    statement = statement.replace("at = now()", "sealed_at = now()") if table == "audit_seals" else statement
    with pytest.raises(sa.exc.DBAPIError, match="append-only"):
        async with owner_engine.begin() as conn:
            await conn.execute(sa.text(statement.format(table)))
