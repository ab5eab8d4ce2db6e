"""The outbox: once for each idempotency key, attempts written ahead, epochs, unknown outcomes, a person's decisions. Needs PostgreSQL."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from chatbot_runtime.db.engine import autocommit, transaction
from chatbot_runtime.errors import Refused
from chatbot_runtime.queue.attempts import Attempt, NotBegun, begin, finish
from chatbot_runtime.queue.conversations import Mode, set_mode
from chatbot_runtime.queue.enqueue import Backpressure
from chatbot_runtime.queue.inbound import Inbound, InboundStatus
from chatbot_runtime.queue.ingest import record_inbound
from chatbot_runtime.queue.lanes import OutClaim, claim_out
from chatbot_runtime.queue.operate import decide
from chatbot_runtime.queue.reconcile import Policy, apply_statuses, expire, resolve_open
from chatbot_runtime.queue.settle import Outcome
from chatbot_runtime.queue.states import Origin, Status
from tests.component.kit import CHANNEL, DAY, conversation, drifted, enqueue, rows, run, status_of

pytestmark = pytest.mark.component

SENT = Outcome(Status.SENT, provider_id="wamid.1")


async def claim(engine: AsyncEngine, batch: int = 10) -> list[OutClaim]:
    async with autocommit(engine) as conn:
        return await claim_out(conn, CHANNEL, batch, 60)


async def start(engine: AsyncEngine, claimed: OutClaim) -> Attempt | NotBegun:
    assert claimed.head is not None
    async with transaction(engine) as conn:
        return await begin(conn, claimed.lane, claimed.head, worker="test", lease_s=60)


async def begun(engine: AsyncEngine) -> Attempt:
    [claimed] = await claim(engine)
    attempt = await start(engine, claimed)
    assert isinstance(attempt, Attempt)
    return attempt


async def end(engine: AsyncEngine, attempt: Attempt, outcome: Outcome) -> bool:
    async with transaction(engine) as conn:
        return await finish(conn, attempt, outcome)


async def resolve(engine: AsyncEngine, claimed: OutClaim, policy: Policy = "hold", wait_s: float = 0.0) -> Status | None:
    assert claimed.head is not None
    async with transaction(engine) as conn:
        return await resolve_open(conn, claimed.lane, claimed.head, policy=policy, max_strikes=8, wait_s=wait_s)


async def lease_ends(engine: AsyncEngine) -> None:
    await run(engine, "UPDATE chat_lanes SET next_at = now()")


async def report(engine: AsyncEngine, *statuses: InboundStatus) -> None:
    async with autocommit(engine) as conn:
        await record_inbound(conn, Inbound(statuses=statuses))
    async with transaction(engine) as conn:
        await apply_statuses(conn)


# -- enqueue


async def test_a_repeat_with_the_same_key_returns_the_first_message(engine: AsyncEngine) -> None:
    chat = await conversation(engine)
    first = await enqueue(engine, chat, "hi", idempotency_key="k")
    again = await enqueue(engine, chat, "hi", idempotency_key="k")
    assert (again.message_id, again.repeated, first.repeated) == (first.message_id, True, False)
    assert await rows(engine, "SELECT count(*) FROM outbox") == [(1,)]


async def test_simultaneous_repeats_make_one_message(engine: AsyncEngine) -> None:
    chat = await conversation(engine)
    done = await asyncio.gather(*(enqueue(engine, chat, "hi", idempotency_key="k") for _ in range(8)))
    assert len({item.message_id for item in done}) == 1
    assert sum(not item.repeated for item in done) == 1
    assert await rows(engine, "SELECT pending FROM chat_lanes") == [(1,)]


async def test_a_key_with_other_content_is_a_conflict(engine: AsyncEngine) -> None:
    chat = await conversation(engine)
    await enqueue(engine, chat, "hi", idempotency_key="k")
    with pytest.raises(Refused) as refused:
        await enqueue(engine, chat, "something else", idempotency_key="k")
    assert (refused.value.status, refused.value.kind) == (409, "idempotency-conflict")


@pytest.mark.parametrize(
    ("options", "status", "kind"),
    [
        ({"body": ""}, 422, "bad-message"),
        ({"body": "x" * 4097}, 422, "bad-message"),
        ({"body": "a\0b"}, 422, "bad-message"),
        ({"body": "a\ud800b"}, 422, "bad-message"),
        ({"idempotency_key": "k" * 201}, 422, "bad-message"),
        ({"chat": uuid4()}, 404, "conversation-not-found"),
    ],
)
async def test_what_can_not_be_sent_is_refused(engine: AsyncEngine, options: dict[str, object], status: int, kind: str) -> None:
    chat = await conversation(engine)
    with pytest.raises(Refused) as refused:
        await enqueue(engine, **{"chat": chat, **options})  # type: ignore[arg-type]
    assert (refused.value.status, refused.value.kind) == (status, kind)
    assert await rows(engine, "SELECT count(*) FROM messages") == [(0,)]


async def test_a_full_queue_takes_people_only(engine: AsyncEngine) -> None:
    chat = await conversation(engine)
    for _ in range(3):
        await enqueue(engine, chat)
    for origin, soft, hard, admitted in (
        (Origin.BULK, 3, 9, False), (Origin.BOT, 3, 9, True), (Origin.BOT, 1, 3, False), (Origin.HUMAN, 1, 1, True),
    ):  # fmt: skip
        if admitted:
            await enqueue(engine, chat, origin=origin, backpressure=Backpressure(soft, hard))
        else:
            with pytest.raises(Refused, match="wait to be sent") as refused:
                await enqueue(engine, chat, origin=origin, backpressure=Backpressure(soft, hard))
            assert (refused.value.status, refused.value.retry_after) == (429, 30)


async def test_a_person_takes_the_conversation_over(engine: AsyncEngine) -> None:
    chat = await conversation(engine)
    await enqueue(engine, chat, origin=Origin.HUMAN)
    assert await rows(engine, "SELECT mode, mode_epoch FROM conversations") == [("human", 1)]


# -- claim and attempt


async def test_the_attempt_is_written_before_anything_is_sent(engine: AsyncEngine) -> None:
    chat = await conversation(engine)
    message = await enqueue(engine, chat)
    attempt = await begun(engine)
    assert await status_of(engine, message.message_id) == "sending"
    assert await rows(engine, "SELECT token, result FROM outbox_attempts") == [(attempt.token, "")]
    assert await claim(engine) == []
    assert await end(engine, attempt, SENT)
    assert await status_of(engine, message.message_id) == "sent"
    assert await rows(engine, "SELECT count(*) FROM outbox") == [(0,)]
    assert await rows(engine, "SELECT pending, open_id FROM chat_lanes") == [(0, None)]


async def test_one_message_a_chat_is_in_flight_and_in_order(engine: AsyncEngine) -> None:
    chat, other = await conversation(engine, 1), await conversation(engine, 2)
    for body in ("a", "b", "c"):
        await enqueue(engine, chat, body)
    await enqueue(engine, other, "x")
    claims = await claim(engine)
    assert [item.head.body for item in claims if item.head] == ["a", "x"]
    sent = []
    while claims:
        attempt = await start(engine, claims.pop(0))
        assert isinstance(attempt, Attempt)
        await end(engine, attempt, replace(SENT, provider_id=f"wamid.{attempt.token}"))
        sent.append(attempt.head.body)
        claims += await claim(engine)
    assert [body for body in sent if body in "abc"] == ["a", "b", "c"]
    assert await drifted(engine) == []


async def test_people_first_then_the_bot_then_mass_sendings(engine: AsyncEngine) -> None:
    chats = [await conversation(engine, number) for number in (1, 2, 3)]
    await enqueue(engine, chats[0], "bulk", Origin.BULK)
    await enqueue(engine, chats[1], "bot", Origin.BOT, mode_epoch=0)
    await enqueue(engine, chats[2], "human", Origin.HUMAN)
    assert [item.head.body for _ in range(3) for item in await claim(engine, 1) if item.head] == ["human", "bot", "bulk"]


async def test_a_person_overtakes_a_mass_sending_in_the_same_chat(engine: AsyncEngine) -> None:
    chat = await conversation(engine)
    for number in range(3):
        await enqueue(engine, chat, f"bulk {number}")
    await enqueue(engine, chat, "human", Origin.HUMAN)
    attempt = await begun(engine)
    assert attempt.head.body == "human"
    await end(engine, attempt, SENT)
    assert await rows(engine, "SELECT priority, pending FROM chat_lanes") == [(2, 3)]


async def test_a_stale_claim_can_neither_begin_nor_finish(engine: AsyncEngine) -> None:
    message = await enqueue(engine, await conversation(engine))
    [stale] = await claim(engine)
    await lease_ends(engine)
    [fresh] = await claim(engine)
    assert await start(engine, stale) == NotBegun("fenced")
    attempt = await start(engine, fresh)
    assert isinstance(attempt, Attempt)
    assert not await end(engine, replace(attempt, lane=stale.lane), Outcome(Status.FAILED, "from the past"))
    assert await status_of(engine, message.message_id) == "sending"


async def test_what_a_stale_worker_learned_is_not_lost(engine: AsyncEngine) -> None:
    message = await enqueue(engine, await conversation(engine))
    attempt = await begun(engine)
    await lease_ends(engine)
    [later] = await claim(engine)
    assert await resolve(engine, later, wait_s=60) is Status.UNKNOWN
    assert not await end(engine, attempt, SENT)
    async with transaction(engine) as conn:
        assert (await apply_statuses(conn)).applied == 1
    assert await status_of(engine, message.message_id) == "sent"
    assert await drifted(engine) == []


async def test_a_bots_reply_is_dropped_when_a_person_took_over(engine: AsyncEngine) -> None:
    chat = await conversation(engine)
    message = await enqueue(engine, chat, "from the bot", Origin.BOT, mode_epoch=0)
    async with transaction(engine) as conn:
        await set_mode(conn, chat, Mode.HUMAN, reason="test")
    [claimed] = await claim(engine)
    assert await start(engine, claimed) == NotBegun("cancelled")
    assert await status_of(engine, message.message_id) == "cancelled"
    assert await rows(engine, "SELECT count(*) FROM outbox_attempts") == [(0,)]
    assert await drifted(engine) == []


async def test_what_waited_too_long_is_never_sent(engine: AsyncEngine) -> None:
    chat, other = await conversation(engine, 1), await conversation(engine, 2)
    late = await enqueue(engine, chat, ttl=timedelta(seconds=-1))
    fresh = await enqueue(engine, chat, "next")
    swept = await enqueue(engine, other, ttl=timedelta(seconds=-1))
    [claimed] = [item for item in await claim(engine) if item.lane.conversation_id == chat]
    assert await start(engine, claimed) == NotBegun("expired")
    async with transaction(engine) as conn:
        assert await expire(conn) == 1
    assert [await status_of(engine, item.message_id) for item in (late, fresh, swept)] == ["expired", "queued", "expired"]
    assert (await begun(engine)).head.body == "next"
    assert await drifted(engine) == []


# -- unknown


async def test_a_crash_after_the_attempt_is_unknown_and_never_queued(engine: AsyncEngine) -> None:
    chat = await conversation(engine)
    first = await enqueue(engine, chat, "first")
    second = await enqueue(engine, chat, "second")
    await begun(engine)
    await lease_ends(engine)
    [claimed] = await claim(engine)
    assert claimed.head is not None
    assert claimed.head.state is Status.SENDING
    assert await resolve(engine, claimed, wait_s=60) is Status.UNKNOWN
    assert await claim(engine) == []  # the chat's order is kept while it waits
    await lease_ends(engine)
    [claimed] = await claim(engine)
    assert await resolve(engine, claimed) is Status.HELD
    assert await status_of(engine, first.message_id) == "held"
    assert (await begun(engine)).head.message_id == second.message_id
    assert await drifted(engine) == []


async def test_a_status_with_our_token_resolves_an_unknown_send(engine: AsyncEngine) -> None:
    message = await enqueue(engine, await conversation(engine))
    attempt = await begun(engine)
    await end(engine, attempt, Outcome(Status.UNKNOWN, "timeout", delay_s=600))
    await report(engine, InboundStatus(CHANNEL, "wamid.7", attempt.token, "delivered"))
    assert await rows(engine, "SELECT status, provider_message_id FROM messages") == [("delivered", "wamid.7")]
    assert await rows(engine, "SELECT pending, open_id FROM chat_lanes") == [(0, None)]
    assert await status_of(engine, message.message_id) == "delivered"


async def test_a_status_that_waits_is_applied_before_policy_decides(engine: AsyncEngine) -> None:
    await enqueue(engine, await conversation(engine))
    attempt = await begun(engine)
    await end(engine, attempt, Outcome(Status.UNKNOWN, "timeout"))
    async with autocommit(engine) as conn:
        await record_inbound(conn, Inbound(statuses=(InboundStatus(CHANNEL, "wamid.7", attempt.token, "sent"),)))
    [claimed] = await claim(engine)
    assert await resolve(engine, claimed, "resend") is None
    async with transaction(engine) as conn:
        await apply_statuses(conn)
    assert await rows(engine, "SELECT status FROM messages") == [("sent",)]


async def test_policy_resend_sends_again_with_another_token(engine: AsyncEngine) -> None:
    await enqueue(engine, await conversation(engine))
    first = await begun(engine)
    await end(engine, first, Outcome(Status.UNKNOWN, "timeout"))
    [claimed] = await claim(engine)
    assert await resolve(engine, claimed, "resend") is Status.QUEUED
    second = await begun(engine)
    assert second.token != first.token
    assert second.head.attempts == 1
    await end(engine, second, SENT)
    await report(engine, InboundStatus(CHANNEL, "wamid.other", first.token, "read"))
    assert await rows(engine, "SELECT status FROM messages") == [("read",)]


async def test_statuses_only_move_forward(engine: AsyncEngine) -> None:
    message = await enqueue(engine, await conversation(engine))
    attempt = await begun(engine)
    await end(engine, attempt, SENT)
    at = datetime(2026, 11, 25, tzinfo=UTC)
    for name in ("read", "delivered", "sent", "failed", "delivered"):
        await report(engine, InboundStatus(CHANNEL, "wamid.1", None, name, at))  # type: ignore[arg-type]
        assert await status_of(engine, message.message_id) == "read"
    assert await rows(engine, "SELECT delivered_at, read_at, failed_at FROM messages") == [(at, at, at)]


async def test_a_status_before_our_own_commit_waits_for_its_message(engine: AsyncEngine) -> None:
    await enqueue(engine, await conversation(engine))
    attempt = await begun(engine)
    await report(engine, InboundStatus(CHANNEL, "wamid.1", None, "delivered"))
    assert await rows(engine, "SELECT count(*) FROM status_inbox") == [(1,)]
    await end(engine, attempt, SENT)
    await run(engine, "UPDATE status_inbox SET next_at = now()")
    async with transaction(engine) as conn:
        assert (await apply_statuses(conn)).applied == 1
    assert await rows(engine, "SELECT status FROM messages") == [("delivered",)]


async def test_a_status_that_never_finds_its_message_is_kept_as_it_came(engine: AsyncEngine) -> None:
    await report(engine, InboundStatus(CHANNEL, "wamid.lost", None, "delivered"))
    await run(engine, "UPDATE status_inbox SET next_at = now(), received_at = now() - interval '25 hours'")
    async with transaction(engine) as conn:
        assert (await apply_statuses(conn)).given_up == 1
    assert await rows(engine, "SELECT payload->>'provider_message_id' FROM raw_events") == [("wamid.lost",)]


async def test_an_answer_that_comes_after_the_status_counts_once(engine: AsyncEngine) -> None:
    chat = await conversation(engine)
    await enqueue(engine, chat, "first")
    await enqueue(engine, chat, "second")
    attempt = await begun(engine)
    await report(engine, InboundStatus(CHANNEL, "wamid.1", attempt.token, "sent"))
    await end(engine, attempt, SENT)
    assert await rows(engine, "SELECT pending FROM chat_lanes") == [(1,)]
    assert (await begun(engine)).head.body == "second"


async def test_one_provider_id_for_two_messages_does_not_stop_the_queue(engine: AsyncEngine) -> None:
    for number in (1, 2):
        await enqueue(engine, await conversation(engine, number))
        await end(engine, await begun(engine), SENT)
    assert await rows(engine, "SELECT status, provider_message_id FROM messages ORDER BY id") == [("sent", "wamid.1"), ("sent", None)]


# -- decisions


async def decided(engine: AsyncEngine, message_id: UUID, decision: str) -> Status:
    async with transaction(engine) as conn:
        return await decide(conn, message_id, decision, actor="u1", ttl=DAY)  # type: ignore[arg-type]


@pytest.mark.parametrize(("decision", "status"), [("requeue", "queued"), ("discard", "cancelled"), ("mark-sent", "sent")])
async def test_a_person_decides_about_a_dead_message(engine: AsyncEngine, decision: str, status: str) -> None:
    message = await enqueue(engine, await conversation(engine))
    await end(engine, await begun(engine), Outcome(Status.DEAD, "given up", 131000))
    await decided(engine, message.message_id, decision)
    assert await status_of(engine, message.message_id) == status
    assert await rows(engine, "SELECT action, target FROM audit_events") == [(f"message.{decision}", str(message.message_id))]
    assert await drifted(engine) == []
    assert len(await claim(engine)) == (decision == "requeue")


async def test_a_decision_comes_too_late_for_a_sent_message(engine: AsyncEngine) -> None:
    message = await enqueue(engine, await conversation(engine))
    attempt = await begun(engine)
    with pytest.raises(Refused) as refused:
        await decided(engine, message.message_id, "discard")
    assert refused.value.status == 409
    await end(engine, attempt, SENT)
    with pytest.raises(Refused):
        await decided(engine, message.message_id, "requeue")


async def test_a_waiting_message_can_be_discarded_without_touching_the_one_in_flight(engine: AsyncEngine) -> None:
    chat = await conversation(engine)
    await enqueue(engine, chat, "first")
    second = await enqueue(engine, chat, "second")
    attempt = await begun(engine)
    await decided(engine, second.message_id, "discard")
    assert await claim(engine) == []
    assert await end(engine, attempt, SENT)
    assert await rows(engine, "SELECT pending, open_id FROM chat_lanes") == [(0, None)]
