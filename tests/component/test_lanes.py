"""Lanes against a model that keeps plain lists, and the cost of a claim with one very deep chat. Needs PostgreSQL."""

import re
from dataclasses import dataclass, field
from uuid import UUID

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from chatbot_runtime.db.engine import autocommit, transaction
from chatbot_runtime.errors import Refused
from chatbot_runtime.queue.attempts import Attempt, begin, finish
from chatbot_runtime.queue.inbound import Inbound, InboundStatus
from chatbot_runtime.queue.ingest import record_inbound
from chatbot_runtime.queue.lanes import CLAIM_OUT, OutClaim, claim_out
from chatbot_runtime.queue.operate import decide
from chatbot_runtime.queue.reconcile import apply_statuses, resolve_open
from chatbot_runtime.queue.settle import Outcome
from chatbot_runtime.queue.states import PRIORITY, Origin, Status, may_become
from tests.component.kit import CHANNEL, DAY, NO_LIMIT, conversation, drifted, enqueue, rows, run

pytestmark = pytest.mark.component

CHATS = 3
WAITING = {Status.QUEUED, Status.SENDING, Status.UNKNOWN}
KEPT = {*WAITING, Status.HELD, Status.DEAD}


@dataclass
class Message:
    id: UUID
    priority: int
    status: Status = Status.QUEUED
    begun: int = 0
    retries: int = 0


@dataclass
class Lane:
    """One chat of the model: everything ever queued, in order; the newest claim; whether nobody may claim it now."""

    messages: list[Message] = field(default_factory=list)
    holder: int | None = None
    waits: bool = False

    @property
    def open(self) -> Message | None:
        return next((item for item in self.messages if item.status in (Status.SENDING, Status.UNKNOWN)), None)

    @property
    def head(self) -> Message | None:
        queued = [item for item in self.messages if item.status is Status.QUEUED]
        return self.open or min(queued, key=lambda item: item.priority, default=None)

    @property
    def claimable(self) -> bool:
        return self.head is not None and not self.waits

    @property
    def empty(self) -> bool:
        return not any(item.status in WAITING for item in self.messages)


@dataclass
class World:
    """The database and its model side by side; each step does the same to both and compares."""

    engine: AsyncEngine
    chats: list[UUID]
    lanes: dict[UUID, Lane]
    claims: list[OutClaim] = field(default_factory=list)
    attempts: list[tuple[int, Attempt]] = field(default_factory=list)

    async def enqueue(self, chat: int, origin: Origin) -> None:
        done = await enqueue(self.engine, self.chats[chat], "text", origin, mode_epoch=0)
        lane = self.lanes[self.chats[chat]]
        lane.waits = lane.waits and not lane.empty
        lane.messages.append(Message(done.message_id, PRIORITY[origin]))

    async def claim(self, batch: int) -> None:
        async with autocommit(self.engine) as conn:
            got = await claim_out(conn, CHANNEL, batch, 3600)
        claimable = {chat: lane for chat, lane in self.lanes.items() if lane.claimable}
        assert len(got) == min(batch, len(claimable))
        for item in got:
            lane = claimable[item.lane.conversation_id]
            assert lane.head is not None
            assert item.head is not None
            assert item.head.message_id == lane.head.id
            assert item.head.state == lane.head.status
            lane.holder, lane.waits = len(self.claims), True
            self.claims.append(item)

    async def begin(self, which: int) -> None:
        claim = self.claims[which % len(self.claims)]
        lane = self.lanes[claim.lane.conversation_id]
        if claim.head is None or claim.head.state is not Status.QUEUED:
            return
        async with transaction(self.engine) as conn:
            begun = await begin(conn, claim.lane, claim.head, worker="model", lease_s=3600)
        message = next(item for item in lane.messages if item.id == claim.head.message_id)
        mine = lane.holder == which % len(self.claims)
        assert isinstance(begun, Attempt) == (mine and message.status is Status.QUEUED and lane.open is None)
        if isinstance(begun, Attempt):
            message.status, lane.waits = Status.SENDING, True
            message.begun += 1
            self.attempts.append((which % len(self.claims), begun))
        elif mine and lane.open is None:
            lane.waits = False

    async def finish(self, which: int, status: Status, delay: bool) -> None:
        holder, attempt = self.attempts[which % len(self.attempts)]
        lane = self.lanes[attempt.lane.conversation_id]
        message = next(item for item in lane.messages if item.id == attempt.head.message_id)
        mine = lane.holder == holder and message.status in KEPT and may_become(message.status, status)
        provider_id = f"wamid.{attempt.token}" if status is Status.SENT else None
        outcome = Outcome(status, provider_id=provider_id, delay_s=3600 if delay else 0)
        async with transaction(self.engine) as conn:
            assert await finish(conn, attempt, outcome) == mine
            await apply_statuses(conn)  # what a fenced worker learned
        if mine:
            message.status, lane.waits = status, delay
            message.retries += status is Status.QUEUED
        elif status is Status.SENT:
            self._accept(lane, message)

    async def report(self, which: int) -> None:
        _, attempt = self.attempts[which % len(self.attempts)]
        lane = self.lanes[attempt.lane.conversation_id]
        status = InboundStatus(CHANNEL, f"wamid.{attempt.token}", attempt.token, "sent")
        async with autocommit(self.engine) as conn:
            await record_inbound(conn, Inbound(statuses=(status,)))
        async with transaction(self.engine) as conn:
            await apply_statuses(conn)
        self._accept(lane, next(item for item in lane.messages if item.id == attempt.head.message_id))

    def _accept(self, lane: Lane, message: Message) -> None:
        """Note that the provider says it took a message, whatever we thought."""
        if message.status in (Status.SENDING, Status.UNKNOWN):
            lane.waits = False
        if may_become(message.status, Status.SENT):
            message.status = Status.SENT

    async def lease_ends(self, chat: int) -> None:
        await run(self.engine, "UPDATE chat_lanes SET next_at = now() WHERE conversation_id = :id", id=self.chats[chat])
        self.lanes[self.chats[chat]].waits = False

    async def resolve(self, which: int, resend: bool) -> None:
        claim = self.claims[which % len(self.claims)]
        lane = self.lanes[claim.lane.conversation_id]
        if claim.head is None or claim.head.state is Status.QUEUED:
            return
        message = next(item for item in lane.messages if item.id == claim.head.message_id)
        became = Status.UNKNOWN if claim.head.state is Status.SENDING else Status.QUEUED if resend else Status.HELD
        mine = lane.holder == which % len(self.claims) and message.status in KEPT and may_become(message.status, became)
        async with transaction(self.engine) as conn:
            done = await resolve_open(conn, claim.lane, claim.head, policy="resend" if resend else "hold", max_strikes=10**6, wait_s=0)
        assert done == (became if mine else None)
        if mine:
            message.status, lane.waits = became, False
            message.retries += became is Status.QUEUED

    async def decide(self, chat: int, which: int, requeue: bool) -> None:
        lane = self.lanes[self.chats[chat]]
        if not lane.messages:
            return
        message = lane.messages[which % len(lane.messages)]
        allowed = message.status in (Status.HELD, Status.DEAD) or (message.status is Status.QUEUED and not requeue)
        empty = lane.empty
        try:
            async with transaction(self.engine) as conn:
                await decide(conn, message.id, "requeue" if requeue else "discard", actor="model", ttl=DAY)
        except Refused:
            assert not allowed
            return
        assert allowed
        message.retries += requeue
        message.status = Status.QUEUED if requeue else Status.CANCELLED
        lane.waits = lane.waits and not (requeue and empty)

    async def check(self) -> None:
        assert await drifted(self.engine) == []
        found = dict(await rows(self.engine, "SELECT id, status FROM messages"))
        assert found == {item.id: item.status for lane in self.lanes.values() for item in lane.messages}
        pending = dict(await rows(self.engine, "SELECT conversation_id, pending FROM chat_lanes"))
        for chat, lane in self.lanes.items():
            assert pending.get(chat, 0) == sum(item.status in WAITING for item in lane.messages)
            assert sum(item.status in (Status.SENDING, Status.UNKNOWN) for item in lane.messages) <= 1
            assert all(item.begun <= 1 + item.retries for item in lane.messages)


small = st.integers(0, 30)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("enqueue"), st.integers(0, CHATS - 1), st.sampled_from([Origin.BOT, Origin.BULK])),
        st.tuples(st.just("claim"), st.integers(1, CHATS)),
        st.tuples(st.just("begin"), small),
        st.tuples(
            st.just("finish"),
            small,
            st.sampled_from([Status.SENT, Status.QUEUED, Status.FAILED, Status.UNKNOWN, Status.DEAD]),
            st.booleans(),
        ),
        st.tuples(st.just("report"), small),
        st.tuples(st.just("lease_ends"), st.integers(0, CHATS - 1)),
        st.tuples(st.just("resolve"), small, st.booleans()),
        st.tuples(st.just("decide"), st.integers(0, CHATS - 1), small, st.booleans()),
    ),
    min_size=5,
    max_size=40,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=STEPS)
async def test_lanes_behave_as_the_model(engine: AsyncEngine, steps: list[tuple]) -> None:  # type: ignore[type-arg]
    await run(engine, "DELETE FROM contacts")
    chats = [await conversation(engine, number) for number in range(CHATS)]
    world = World(engine, chats, {chat: Lane() for chat in chats})
    for name, *arguments in steps:
        needs = {"begin": world.claims, "resolve": world.claims, "finish": world.attempts, "report": world.attempts}
        if needs.get(name, True):
            await getattr(world, name)(*arguments)
            await world.check()


def touched(plan: str) -> int:
    """Return how many rows all nodes of an EXPLAIN ANALYZE produced or threw away."""
    nodes = re.findall(r"actual rows=(\d+) loops=(\d+)", plan)
    removed = re.findall(r"Rows Removed by [\w ]+: (\d+)", plan)
    return sum(int(count) * int(loops) for count, loops in nodes) + sum(map(int, removed))


async def explain(engine: AsyncEngine) -> tuple[int, int]:
    """Return rows touched and buffers read by a claim of 20 lanes, which is rolled back."""
    compiled = sa.text("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF) " + str(CLAIM_OUT)).bindparams(
        *(sa.bindparam(name, type_=kind) for name, kind in (("lease", sa.Interval()), ("channel", sa.Text()), ("kind", sa.Text())))
    )
    async with engine.connect() as conn:
        result = await conn.execute(compiled, {"channel": CHANNEL, "kind": "out", "batch": 20, "lease": DAY})
        plan = "\n".join(result.scalars().all())
        await conn.rollback()
    hit = re.search(r"Buffers: shared hit=(\d+)(?: read=(\d+))?", plan)
    assert hit is not None
    return touched(plan), int(hit.group(1)) + int(hit.group(2) or 0)


async def fill(owner: AsyncEngine, chat: UUID, count: int) -> None:
    """Queue many messages of one chat as `enqueue_message` would, in bulk."""
    await run(
        owner,
        "WITH m AS (INSERT INTO messages (id, conversation_id, channel_id, origin, kind, body, status)"
        " SELECT gen_random_uuid(), :chat, :channel, 'bulk', 'text', 'x', 'queued' FROM generate_series(1, :count) RETURNING id)"
        " INSERT INTO outbox (message_id, conversation_id, channel_id, priority, expires_at)"
        " SELECT id, :chat, :channel, 2, now() + interval '1 day' FROM m",
        chat=chat, channel=CHANNEL, count=count,
    )  # fmt: skip
    await run(owner, "UPDATE chat_lanes SET pending = pending + :count WHERE conversation_id = :chat", chat=chat, count=count)


@pytest.mark.timeout(120)
async def test_a_claim_costs_the_same_with_100000_messages_in_one_chat(engine: AsyncEngine, owner_engine: AsyncEngine) -> None:
    chats = [await conversation(engine, number) for number in range(50)]
    for chat in chats:
        await enqueue(engine, chat, backpressure=NO_LIMIT)
    await fill(owner_engine, chats[0], 10)
    await run(owner_engine, "ANALYZE outbox, chat_lanes, messages")
    shallow_rows, shallow_buffers = await explain(engine)
    await fill(owner_engine, chats[0], 100_000)
    await run(owner_engine, "ANALYZE outbox, chat_lanes, messages")
    deep_rows, deep_buffers = await explain(engine)
    assert deep_rows <= shallow_rows * 1.5
    assert deep_buffers <= shallow_buffers * 2
