"""Durable intake of webhooks: nothing twice, nothing lost, nothing refused that could be kept. Needs PostgreSQL."""

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from chatbot_runtime.db.engine import autocommit
from chatbot_runtime.errors import DatabaseDown
from chatbot_runtime.queue.inbound import Inbound, InboundStatus, Unrecognised
from chatbot_runtime.queue.ingest import record_inbound
from tests.component.kit import CHANNEL, drifted, receive, rows, text
from tests.component.servers import Database, Postgres
from tests.component.wiretap import Wiretap

pytestmark = pytest.mark.component


async def test_a_message_becomes_message_inbox_row_and_lane(engine: AsyncEngine) -> None:
    done = await receive(engine, text(1, "hola", "wamid.A", sent_at=datetime(2026, 11, 25, tzinfo=UTC)))
    assert (done.stored, done.repeated) == (1, 0)
    assert await rows(engine, "SELECT origin, status, body, provider_message_id FROM messages") == [
        ("contact", "received", "hola", "wamid.A")
    ]
    assert await rows(engine, "SELECT kind, channel_id, pending FROM chat_lanes") == [("in", CHANNEL, 1)]
    assert await rows(engine, "SELECT count(*) FROM inbox") == [(1,)]
    assert await rows(engine, "SELECT unread, mode FROM conversations") == [(1, "bot")]


async def test_a_repeat_changes_nothing(engine: AsyncEngine) -> None:
    await receive(engine, text(1, provider_id="wamid.A"))
    done = await receive(engine, text(1, provider_id="wamid.A"), text(1, provider_id="wamid.B"), text(1, provider_id="wamid.B"))
    assert (done.stored, done.repeated) == (1, 2)
    assert await rows(engine, "SELECT pending FROM chat_lanes") == [(2,)]
    assert await rows(engine, "SELECT unread FROM conversations") == [(2,)]


async def test_simultaneous_repeats_from_a_new_contact_are_stored_once(engine: AsyncEngine) -> None:
    deliveries = [[text(person, provider_id=f"wamid.{person}") for person in order] for order in ((1, 2, 3), (3, 2, 1), (2, 3, 1)) * 4]
    done = await asyncio.gather(*(receive(engine, *items) for items in deliveries))
    assert sum(item.stored for item in done) == 3
    assert sum(item.repeated for item in done) == 12 * 3 - 3
    assert await rows(engine, "SELECT count(*) FROM contacts") == [(3,)]
    assert await rows(engine, "SELECT count(*) FROM conversations") == [(3,)]
    assert await drifted(engine) == []


async def test_order_within_a_delivery_is_kept(engine: AsyncEngine) -> None:
    bodies = [f"message {number}" for number in range(50)]
    await receive(engine, *(text(1, body) for body in bodies))
    assert [body for (body,) in await rows(engine, "SELECT body FROM messages ORDER BY id")] == bodies


async def test_a_contact_is_one_person_by_user_id_and_by_number(engine: AsyncEngine) -> None:
    await receive(engine, text(1))
    await receive(engine, text(1, bsuid="MX.1"))
    await receive(engine, text(0, wa_id=None, bsuid="MX.1"))
    assert await rows(engine, "SELECT count(*) FROM conversations") == [(1,)]
    assert len(await rows(engine, "SELECT value FROM contact_aliases")) == 2


async def test_a_user_id_wins_over_a_number_that_changed_hands(engine: AsyncEngine) -> None:
    await receive(engine, text(1, bsuid="MX.1"))
    await receive(engine, text(2, bsuid="MX.2"))
    await receive(engine, text(2, "from the new number", bsuid="MX.1"))
    found = await rows(
        engine,
        "SELECT count(*) FROM messages m JOIN conversations c ON c.id = m.conversation_id"
        " JOIN contact_aliases a ON a.contact_id = c.contact_id WHERE a.value = 'MX.1'",
    )
    assert found == [(2,)]


async def test_statuses_and_unknown_events_are_kept(engine: AsyncEngine) -> None:
    token = uuid4()
    inbound = Inbound(
        statuses=(
            InboundStatus(CHANNEL, "wamid.X", token, "delivered"),
            InboundStatus(CHANNEL, "wamid.Y", None, "failed", None, 131026, "no"),
        ),
        unrecognised=(Unrecognised("field 'account_update' is not handled", {"field": "account_update", "text": "a\0b"}),),
    )
    async with autocommit(engine) as conn:
        done = await record_inbound(conn, inbound)
    assert (done.statuses, done.raw) == (2, 1)
    assert await rows(engine, "SELECT status, token, error_code FROM status_inbox ORDER BY id") == [
        ("delivered", token, None),
        ("failed", None, 131026),
    ]
    assert await rows(engine, "SELECT payload->>'text' FROM raw_events") == [("a\ufffdb",)]


@pytest.mark.parametrize("body", ["\0", "a\0b", "\\u0000", "😀" * 1000, "'; DROP TABLE messages; --", "\u202e\u0301", ""])
async def test_any_text_is_stored(engine: AsyncEngine, body: str) -> None:
    assert (await receive(engine, text(1, body))).stored == 1
    assert await rows(engine, "SELECT body FROM messages") == [(body.replace("\0", "\ufffd"),)]


async def test_a_value_that_is_null_in_json_is_kept(engine: AsyncEngine) -> None:
    async with autocommit(engine) as conn:
        assert (await record_inbound(conn, Inbound(unrecognised=(Unrecognised("odd", None),)))).raw == 1
    assert await rows(engine, "SELECT payload = 'null' FROM raw_events") == [(True,)]


async def test_after_an_outage_the_first_webhook_is_stored(engine: AsyncEngine, outage: Postgres) -> None:
    await asyncio.gather(*(receive(engine, text(number)) for number in range(5)))
    await asyncio.to_thread(outage.stop)
    with pytest.raises(DatabaseDown):
        await receive(engine, text(1))
    await asyncio.to_thread(outage.start)
    assert (await receive(engine, text(1))).stored == 1


async def test_a_webhook_is_one_round_trip(database: Database) -> None:
    async with Wiretap(database.server.port) as wire:
        url = database.url().replace(f":{database.server.port}/", f":{wire.port}/").replace("postgresql://", "postgresql+asyncpg://")
        engine = create_async_engine(url, pool_size=1)
        try:
            for _ in range(2):  # the first ones connect, and prepare the statement
                await receive(engine, text(1))
            before = wire.round_trips
            done = await receive(engine, *(text(person) for person in range(5)))
            assert done.stored == 5
            assert wire.round_trips - before == 1
        finally:
            await engine.dispose()
