"""The runtime on a real PostgreSQL with fsync: webhooks made durable beside raw inserts, and the claim of a lane at two depths."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import uvloop
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.flood import flood, rendered
from bench.report import Report
from bench.rig import usage
from chatbot_runtime.db.engine import autocommit, create_engine
from chatbot_runtime.queue.lanes import claim_out, put_back
from chatbot_runtime.settings import Settings
from tests.component.conftest import ACCESS_TOKEN, ADMIN_PASSWORD, APP_SECRET, JWT_SECRET, VERIFY_TOKEN, migrate
from tests.component.kit import CHANNEL, conversation, enqueue, phone
from tests.component.running import NUMBER_ID, RuntimeProcess, signed, text_webhook
from tests.component.servers import Database, Postgres, Redis

_WEBHOOKS = 6000
_CLIENTS = 32
"""Connections of those who send webhooks, and of those who insert rows."""
_CLAIMS = 300


async def measure(report: Report) -> None:
    """Run both measurements on fresh servers and add their rows."""
    print("==> runtime", flush=True)
    postgres = await asyncio.to_thread(lambda: Postgres.create(fsync=True))
    redis = await asyncio.to_thread(Redis.create)
    try:
        database = postgres.create_database()
        with tempfile.TemporaryDirectory() as folder:
            await asyncio.to_thread(migrate, database, Path(folder) / "result")
        environment = _environment(database, redis)
        ingest = await _webhooks(database, environment)
        report.add("runtime webhooks", ingest)
        report.compare("webhooks made durable", ingest["webhooks_per_s"], "/s")
        report.compare("raw message and queue row, one transaction each", ingest["raw_message_and_queue_per_s"], "/s")
        both = round(ingest["webhooks_per_s"] / ingest["raw_message_and_queue_per_s"], 2)
        report.compare("webhooks / raw message and queue row", both, "", least=0.6)
        report.compare("raw message and queue row, one statement each", ingest["raw_both_in_one_per_s"], "/s")
        in_one = round(ingest["webhooks_per_s"] / ingest["raw_both_in_one_per_s"], 2)
        report.compare("webhooks / raw message and queue row in one statement", in_one, "")
        report.compare("raw single rows, one statement each", ingest["raw_per_s"], "/s")
        report.compare("webhooks / raw single rows", round(ingest["webhooks_per_s"] / ingest["raw_per_s"], 2), "")
        report.compare("SQL round trips per webhook", ingest["statements_per_webhook"], "", most=1)
        engine = create_engine(Settings.model_validate({name.lower(): value for name, value in environment.items()}))
        claims = await _claims(postgres, database, engine)
        await engine.dispose()
        report.add("runtime claims", claims)
        report.compare("claim with 10 queued in one chat", claims["shallow_ms"], "ms")
        report.compare("claim with 100 000 queued in one chat", claims["deep_ms"], "ms")
        report.compare("claim deep / shallow", round(claims["deep_ms"] / claims["shallow_ms"], 2), "x", most=2)
    finally:
        redis.destroy()
        postgres.destroy()


def _environment(database: Database, redis: Redis) -> dict[str, str]:
    return {
        **database.env(),
        **redis.env(),
        "JWT_SECRET": JWT_SECRET,
        "ADMIN_PASSWORD": ADMIN_PASSWORD,
        "WA_PHONE_NUMBER_ID": NUMBER_ID,
        "WA_APP_SECRET": APP_SECRET,
        "WA_VERIFY_TOKEN": VERIFY_TOKEN,
        "WA_ACCESS_TOKEN": ACCESS_TOKEN,
        "BIND_HOST": "127.0.0.1",
        "LOG_LEVEL": "warning",
    }


async def _webhooks(database: Database, environment: dict[str, str]) -> dict[str, Any]:
    bodies = [text_webhook((f"wamid.bench{number}", f"hola {number}"), sender=phone(number % 500)) for number in range(_WEBHOOKS)]
    warm = [text_webhook((f"wamid.warm{number}", "hola"), sender=phone(number % 500)) for number in range(500)]
    requests, warming = ([rendered("/webhooks/cloud", body, signed(body)) for body in some] for some in (bodies, warm))
    _prepare_raw(database)
    raw = [await _raw_inserts(database, bodies, insert) for insert in _RAW]
    app = RuntimeProcess("app", environment).start()
    try:
        await asyncio.to_thread(app.wait_ready)
        await _on_uvloop(lambda: flood(app.port, warming, _CLIENTS))
        assert app.process is not None
        before, statements = usage(app.process.pid), _statements(database)
        seconds = await _on_uvloop(lambda: flood(app.port, requests, _CLIENTS))
        after, done = usage(app.process.pid), _statements(database)
        stored = int(database.sql("SELECT count(*) FROM messages WHERE origin = 'contact'")[0])
        if stored != _WEBHOOKS + len(warm):
            raise RuntimeError(f"{stored} messages are stored, not {_WEBHOOKS + len(warm)}")
    finally:
        app.close()
    again = [await _raw_inserts(database, bodies, insert) for insert in _RAW]
    single, both, in_one = (round(statistics.mean(rates)) for rates in zip(raw, again, strict=True))
    return {
        "webhooks": _WEBHOOKS,
        "clients": _CLIENTS,
        "raw_per_s": single,
        "raw_message_and_queue_per_s": both,
        "raw_both_in_one_per_s": in_one,
        "webhooks_per_s": round(_WEBHOOKS / seconds),
        "app_cpu_ms_per_webhook": round(1000 * (after.cpu - before.cpu) / _WEBHOOKS, 3),
        "statements_per_webhook": round((done - statements) / _WEBHOOKS, 2),
    }


async def _on_uvloop(work: Callable[[], Coroutine[Any, Any, float]]) -> float:
    """Run a client in the event loop that the app runs in too, so that neither has the better one."""
    return await asyncio.to_thread(lambda: uvloop.run(work()))


def _prepare_raw(database: Database) -> None:
    database.sql(
        """
        CREATE TABLE raw_messages (id bigserial PRIMARY KEY, at timestamptz DEFAULT now(), body jsonb);
        CREATE TABLE raw_queue (message_id bigint PRIMARY KEY);
        GRANT ALL ON raw_messages, raw_queue TO PUBLIC;
        GRANT ALL ON SEQUENCE raw_messages_id_seq TO PUBLIC
        """
    )


async def _insert(conn: "asyncpg.Connection[Any]", body: str) -> None:
    """Insert the body as one row: one statement, one round trip."""
    await conn.execute("INSERT INTO raw_messages (body) VALUES ($1)", body)


async def _insert_both(conn: "asyncpg.Connection[Any]", body: str) -> None:
    """Insert the body and a row that says it waits, as a program without a stored function would."""
    async with conn.transaction():
        number = await conn.fetchval("INSERT INTO raw_messages (body) VALUES ($1) RETURNING id", body)
        await conn.execute("INSERT INTO raw_queue (message_id) VALUES ($1)", number)


async def _insert_both_in_one(conn: "asyncpg.Connection[Any]", body: str) -> None:
    """Insert the same two rows in one statement: what is left of `_insert_both` without its round trips."""
    await conn.execute(
        """
        WITH made AS (INSERT INTO raw_messages (body) VALUES ($1) RETURNING id)
        INSERT INTO raw_queue (message_id) SELECT id FROM made
        """,
        body,
    )


_RAW = (_insert, _insert_both, _insert_both_in_one)


async def _raw_inserts(database: Database, bodies: list[bytes], insert: Callable[[Any, str], Awaitable[None]]) -> float:
    """Insert each body in a transaction of its own, on as many connections as there are clients of the app; return bodies a second."""

    async def run() -> float:
        queue = iter([body.decode() for body in bodies])
        conns = [await asyncpg.connect(database.url()) for _ in range(_CLIENTS)]

        async def work(conn: "asyncpg.Connection[Any]") -> None:
            for body in queue:
                await insert(conn, body)

        started = time.monotonic()
        await asyncio.gather(*(work(conn) for conn in conns))
        seconds = time.monotonic() - started
        await asyncio.gather(*(conn.close() for conn in conns))
        return seconds

    return len(bodies) / await _on_uvloop(run)


def _statements(database: Database) -> int:
    """Return the transactions of the database so far; the app has one statement a transaction on this path."""
    database.sql("SELECT pg_stat_force_next_flush()")
    return int(database.sql(f"SELECT xact_commit FROM pg_stat_database WHERE datname = '{database.name}'")[0])  # noqa: S608  our own name


async def _claims(postgres: Postgres, database: Database, engine: AsyncEngine) -> dict[str, Any]:
    chats = [await conversation(engine, 1000 + number) for number in range(20)]
    for chat in chats:
        for number in range(10):
            await enqueue(engine, chat, f"message {number}")
    shallow = await _claim_ms(postgres, database, engine)
    await asyncio.to_thread(_deepen, database, chats[0], 100_000)
    deep = await _claim_ms(postgres, database, engine)
    return {"shallow_ms": shallow, "deep_ms": deep, "chats": len(chats)}


def _deepen(database: Database, chat: UUID, count: int) -> None:
    """Queue so many messages in one chat, as rows: the API would take minutes."""
    database.sql(
        f"""
        WITH made AS (
            INSERT INTO messages (id, conversation_id, channel_id, origin, kind, body, status)
            SELECT gen_random_uuid(), '{chat}', '{CHANNEL}', 'bulk', 'text', 'deep', 'queued' FROM generate_series(1, {count}) RETURNING id
        )
        INSERT INTO outbox (message_id, conversation_id, channel_id, priority, expires_at)
        SELECT id, '{chat}', '{CHANNEL}', 2, now() + interval '1 day' FROM made
        """  # noqa: S608  our own values
    )
    database.sql(f"UPDATE chat_lanes SET pending = pending + {count} WHERE conversation_id = '{chat}' AND kind = 'out'")  # noqa: S608  our own values
    if int(database.sql("SELECT max(pending) FROM chat_lanes")[0]) < count:
        raise RuntimeError("the lane did not get deep")


async def _claim_ms(postgres: Postgres, database: Database, engine: AsyncEngine) -> float:
    """Return the median of claiming every lane and giving it back, in milliseconds a claim."""
    postgres.sql("VACUUM ANALYZE", database.name)
    seconds = []
    async with autocommit(engine) as conn:
        for _ in range(_CLAIMS):
            started = time.monotonic()
            claims = await claim_out(conn, CHANNEL, 20, 60.0)
            seconds.append(time.monotonic() - started)
            if len(claims) != 20 or any(claim.head is None for claim in claims):
                raise RuntimeError(f"{len(claims)} lanes were claimed, not 20")
            for claim in claims:
                await put_back(conn, claim.lane)
    return round(1000 * statistics.median(seconds), 3)
