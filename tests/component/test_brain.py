"""Turns of the bot as transactions: once for each message, never over a person; a chat that fails goes to one. Needs PostgreSQL, Redis."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from chatbot_runtime.brain import turn as turns
from chatbot_runtime.brain.bot import FAILURES_MAX, Bot
from chatbot_runtime.brain.turn import HEARD_MAX
from chatbot_runtime.db.engine import transaction
from chatbot_runtime.db.ids import first_id
from chatbot_runtime.lifecycle import Lifecycle
from chatbot_runtime.queue.conversations import Mode, set_mode
from chatbot_runtime.queue.enqueue import TEXT_MAX
from chatbot_runtime.redis.client import RedisClient
from chatbot_runtime.redis.wake import Waker
from chatbot_runtime.settings import Settings
from tests.component.kit import conversation, drifted, receive, rows, run, text

pytestmark = pytest.mark.component

ANSWERS = "SELECT body FROM messages WHERE origin = 'bot' ORDER BY id"


@pytest.fixture
def bot(engine: AsyncEngine, settings: Settings) -> Bot:
    return Bot(engine, Waker(RedisClient(None, prefix="")), settings)


@pytest.fixture
def life() -> Lifecycle:
    return Lifecycle(1)


async def test_a_burst_is_one_turn_with_one_greeting(engine: AsyncEngine, bot: Bot, life: Lifecycle) -> None:
    await receive(engine, text(1, "hola"), text(1, "horario"))
    assert await bot.step(life) == 1
    [(answer,)] = await rows(engine, ANSWERS)
    assert answer.startswith("¡Hola! Soy")
    assert "9:00" in answer
    await receive(engine, text(1, "horario"))
    await bot.step(life)
    assert not (await rows(engine, ANSWERS))[1][0].startswith("¡Hola!")
    assert await bot.step(life) == 0
    assert await drifted(engine) == []


async def test_many_bots_at_once_answer_each_message_once(engine: AsyncEngine, settings: Settings, life: Lifecycle) -> None:
    bots = [Bot(engine, Waker(RedisClient(None, prefix="")), settings) for _ in range(4)]
    for round_ in range(3):
        await receive(engine, *(text(number, f"horario {round_}") for number in range(10)))
        await asyncio.gather(*(item.step(life) for item in bots))
    while await bots[0].step(life):
        pass
    assert await rows(engine, "SELECT count(*) FROM messages WHERE origin = 'bot' GROUP BY conversation_id") == [(3,)] * 10
    assert await rows(engine, "SELECT count(*) FROM inbox") == [(0,)]


async def test_asking_for_a_person_hands_over_once_and_then_the_bot_is_silent(engine: AsyncEngine, bot: Bot, life: Lifecycle) -> None:
    await receive(engine, text(1, "quiero hablar con una persona"))
    await bot.step(life)
    await receive(engine, text(1, "horario"))
    await bot.step(life)
    assert len(await rows(engine, ANSWERS)) == 1
    assert await rows(engine, "SELECT mode, mode_epoch, mode_reason, unread FROM conversations") == [("pending_human", 1, "asked", 2)]
    # The notice itself was written under the new epoch, so it is not dropped as outdated.
    assert await rows(engine, "SELECT mode_epoch FROM outbox") == [(1,)]


async def test_a_reply_and_a_take_over_at_the_same_time_never_both_count(engine: AsyncEngine, bot: Bot, life: Lifecycle) -> None:
    await receive(engine, text(1, "horario"))
    [(chat,)] = await rows(engine, "SELECT id FROM conversations")

    async def take_over() -> None:
        async with transaction(engine) as conn:
            await set_mode(conn, chat, Mode.HUMAN, reason="test")

    await asyncio.gather(bot.step(life), take_over())
    queued = await rows(engine, "SELECT o.mode_epoch = c.mode_epoch FROM outbox o JOIN conversations c ON c.id = o.conversation_id")
    assert queued in ([], [(False,)])


WROTE = (
    "INSERT INTO messages (id, conversation_id, channel_id, origin, kind, body, status)"
    " SELECT :id, id, channel_id, 'human', 'text', 'I am with you', 'sent' FROM conversations"
)


@pytest.mark.parametrize(
    ("mode", "taken_h", "wrote_h", "idle_h", "answers"),
    [
        ("human", 13, None, 12, 1),
        ("human", 11, None, 12, 0),
        ("human", 50, 13, 12, 1),
        ("human", 50, 11, 12, 0),
        ("human", 5000, None, 0, 0),
        ("pending_human", 5000, None, 12, 0),
    ],
)
async def test_a_person_who_is_silent_for_too_long_gives_the_chat_back(
    engine: AsyncEngine, settings: Settings, life: Lifecycle, mode: str, taken_h: int, wrote_h: int | None, idle_h: int, answers: int
) -> None:
    await conversation(engine, 1)
    since = f"now() - interval '{taken_h} h'"
    await run(engine, f"UPDATE conversations SET mode = '{mode}', mode_epoch = 7, mode_changed_at = {since}")  # noqa: S608  values of this test
    if wrote_h is not None:
        await run(engine, WROTE, id=first_id(datetime.now(UTC) - timedelta(hours=wrote_h)))
    await receive(engine, text(1, "horario"))
    await Bot(engine, Waker(RedisClient(None, prefix="")), settings.model_copy(update={"human_idle_h": idle_h})).step(life)
    assert len(await rows(engine, ANSWERS)) == answers
    assert await rows(engine, "SELECT mode, mode_epoch FROM conversations") == [("bot", 8) if answers else (mode, 7)]
    assert await rows(engine, "SELECT mode_epoch FROM outbox") == [(8,)] * answers
    assert await rows(engine, "SELECT actor FROM audit_events WHERE action = 'conversation.mode'") == [("bot",)] * answers


async def test_a_chat_that_always_fails_goes_to_a_person_and_others_go_on(
    engine: AsyncEngine, bot: Bot, life: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = turns.decide_turn

    def decide(conversation, heard, knowledge, locale):  # type: ignore[no-untyped-def]
        if any("poison" in item.body for item in heard):
            raise ValueError("a fault of the bot")
        return real(conversation, heard, knowledge, locale)

    monkeypatch.setattr(turns, "decide_turn", decide)
    await receive(engine, text(1, "poison"), text(2, "horario"))
    for _ in range(FAILURES_MAX):
        await bot.step(life)
        await run(engine, "UPDATE chat_lanes SET next_at = now()")
    assert len(await rows(engine, ANSWERS)) == 1
    assert await rows(engine, "SELECT mode, mode_reason, unread FROM conversations WHERE mode <> 'bot'") == [
        ("pending_human", "bot failed", 1)
    ]
    assert await rows(engine, "SELECT count(*) FROM inbox") == [(0,)]
    assert await drifted(engine) == []


async def test_a_reply_longer_than_a_message_is_sent_in_pieces(
    engine: AsyncEngine, owner_engine: AsyncEngine, settings: Settings, life: Lifecycle
) -> None:
    reply = "\n\n".join(f"{number}: " + "x" * 3000 for number in range(3))
    await run(owner_engine, "UPDATE bot_intents SET reply = :reply WHERE name = 'hours'", reply=reply)
    bot = Bot(engine, Waker(RedisClient(None, prefix="")), settings)
    await receive(engine, text(1, "horario"))
    await bot.step(life)
    sent = [body for (body,) in await rows(engine, ANSWERS)]
    assert len(sent) == 3
    assert "\n\n".join(sent).endswith(reply)
    assert await rows(engine, "SELECT count(*) FROM inbox") == [(0,)]
    assert await drifted(engine) == []


async def test_a_reply_that_is_refused_for_good_goes_to_a_person(
    engine: AsyncEngine, bot: Bot, life: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "pieces", lambda *_: ["x" * (TEXT_MAX + 1)])
    await receive(engine, text(1, "horario"))
    for _ in range(FAILURES_MAX):
        await bot.step(life)
        await run(engine, "UPDATE chat_lanes SET next_at = now()")
    assert await rows(engine, "SELECT mode, mode_reason FROM conversations") == [("pending_human", "bot failed")]


async def test_thousands_of_unseen_messages_are_taken_up_in_rounds(engine: AsyncEngine, bot: Bot, life: Lifecycle) -> None:
    await receive(engine, *(text(1, "horario") for _ in range(2 * HEARD_MAX + 1)))
    for left in (HEARD_MAX + 1, 1, 0):
        assert await bot.step(life) == 1
        assert await rows(engine, "SELECT count(*) FROM inbox") == [(left,)]
    assert await drifted(engine) == []
    assert await bot.step(life) == 0


async def test_a_full_queue_postpones_the_answer_and_loses_nothing(engine: AsyncEngine, settings: Settings, life: Lifecycle) -> None:
    full = Bot(engine, Waker(RedisClient(None, prefix="")), settings.model_copy(update={"queue_hard_max": 1, "queue_soft_max": 1}))
    await receive(engine, text(1, "horario"))
    await full.step(life)
    full = Bot(engine, Waker(RedisClient(None, prefix="")), settings.model_copy(update={"queue_hard_max": 1, "queue_soft_max": 1}))
    await receive(engine, text(2, "horario"))
    await full.step(life)
    assert len(await rows(engine, ANSWERS)) == 1
    await run(engine, "DELETE FROM outbox")
    await run(engine, "UPDATE chat_lanes SET pending = 0 WHERE kind = 'out'")
    await run(engine, "UPDATE chat_lanes SET next_at = now()")
    await Bot(engine, Waker(RedisClient(None, prefix="")), settings).step(life)
    assert len(await rows(engine, ANSWERS)) == 2


async def test_an_edit_of_what_the_bot_knows_takes_effect(engine: AsyncEngine, settings: Settings, life: Lifecycle) -> None:
    await run(engine, "INSERT INTO bot_intents (name, locale, keywords, reply) VALUES ('parking', 'es', '{estacionamiento}', 'Sí hay.')")
    await receive(engine, text(1, "¿tienen estacionamiento?"))
    await Bot(engine, Waker(RedisClient(None, prefix="")), settings).step(life)
    assert "Sí hay." in (await rows(engine, ANSWERS))[0][0]
