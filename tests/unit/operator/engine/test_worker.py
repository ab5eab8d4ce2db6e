"""The pool: who works when, how errors become back-off, and that one bad instance stops nobody."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from chatbot_operator.clock import SystemClock
from chatbot_operator.engine.passes import PassReport, Result
from chatbot_operator.engine.queue import Backoff, WorkQueue
from chatbot_operator.engine.queue_metrics import WorkqueueMetrics
from chatbot_operator.engine.store import NamespacedName
from chatbot_operator.engine.worker import Workers
from chatbot_operator.errors import LeadershipLost, Throttled, Unavailable
from chatbot_operator.metrics import Metrics

A, B = NamespacedName("team", "a"), NamespacedName("team", "b")
STEADY = PassReport(Result.STEADY)


class Runner:
    def __init__(self, work: Callable[[NamespacedName], Awaitable[PassReport]]) -> None:
        self.work = work
        self.passes: list[NamespacedName] = []
        self.broken: list[tuple[NamespacedName, str]] = []

    async def run(self, key: NamespacedName) -> PassReport:
        self.passes.append(key)
        return await self.work(key)

    async def mark_broken(self, key: NamespacedName, error: BaseException) -> None:
        self.broken.append((key, type(error).__name__))


class Pool:
    def __init__(
        self,
        work: Callable[[NamespacedName], Awaitable[PassReport]],
        *,
        count: int = 2,
        resync: float = 3600.0,
        can_see: Callable[[NamespacedName], bool] = lambda _: True,
    ) -> None:
        self.leads = True
        self.metrics = Metrics()
        clock = SystemClock()
        self.queue: WorkQueue[NamespacedName] = WorkQueue(
            clock, WorkqueueMetrics(self.metrics, "q"), backoff=Backoff(base=0.001, cap=0.01), aging=30
        )
        self.runner = Runner(work)
        self.workers = Workers(
            self.queue,
            self.runner,
            lambda: self.leads,
            clock,
            self.metrics,
            count=count,
            resync_seconds=resync,
            can_see=can_see,
            rand=lambda: 0.5,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.workers.run())
        try:
            yield
        finally:
            self.queue.close()
            await asyncio.wait_for(task, 5)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 conditions of many kinds, none with an event
                await asyncio.sleep(0.001)

    def count(self, result: str) -> float:
        return self.metrics.registry.get_sample_value("chatbot_operator_passes_total", {"result": result}) or 0.0


async def _steady(_: NamespacedName) -> PassReport:
    return STEADY


async def test_a_steady_instance_is_passed_once_and_then_only_resynced() -> None:
    pool = Pool(_steady)
    async with pool.running():
        pool.queue.add(A)
        await pool.until(lambda: pool.count("steady") == 1)
        await asyncio.sleep(0.02)
        assert pool.runner.passes == [A]
        assert pool.queue.next_due() is not None  # the resync
        assert pool.queue.failures(A) == 0


async def test_what_is_over_is_not_even_resynced() -> None:
    async def work(_: NamespacedName) -> PassReport:
        return PassReport(Result.STEADY, over=True)

    pool = Pool(work)
    async with pool.running():
        pool.queue.add(A)
        await pool.until(lambda: pool.count("steady") == 1)
        await asyncio.sleep(0.02)
        assert pool.queue.next_due() is None


async def test_every_instance_is_revisited_although_nobody_wakes_it() -> None:
    pool = Pool(_steady, resync=0.01)
    async with pool.running():
        pool.queue.add(A)
        pool.queue.add(B)
        await pool.until(lambda: pool.runner.passes.count(A) >= 3 and pool.runner.passes.count(B) >= 3)


async def test_a_pass_that_changed_something_is_followed_by_another_until_it_is_steady() -> None:
    async def work(key: NamespacedName) -> PassReport:
        return PassReport(Result.CHANGED) if len(pool.runner.passes) < 5 else STEADY

    pool = Pool(work)
    async with pool.running():
        pool.queue.add(A)
        await pool.until(lambda: pool.count("steady") == 1)
    assert len(pool.runner.passes) == 5


async def test_a_standby_makes_no_pass_and_the_leader_makes_those_that_waited() -> None:
    pool = Pool(_steady)
    pool.leads = False
    async with pool.running():
        pool.queue.add(A)
        pool.queue.add(B)
        await asyncio.sleep(0.15)
        assert pool.runner.passes == []
        pool.leads = True
        await pool.until(lambda: len(pool.runner.passes) == 2)


async def test_one_key_is_never_in_two_passes() -> None:
    inside, most = 0, 0

    async def work(_: NamespacedName) -> PassReport:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.002)
        inside -= 1
        return STEADY

    pool = Pool(work, count=8)
    async with pool.running():
        for _ in range(20):
            pool.queue.add(A)
            await asyncio.sleep(0.001)
        await pool.until(lambda: inside == 0 and pool.queue.depth == 0)
    assert most == 1


async def test_passes_are_bounded() -> None:
    inside, most = 0, 0

    async def work(_: NamespacedName) -> PassReport:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.002)
        inside -= 1
        return STEADY

    pool = Pool(work, count=3)
    async with pool.running():
        for number in range(30):
            pool.queue.add(NamespacedName("team", str(number)))
        await pool.until(lambda: pool.count("steady") == 30)
    assert most == 3


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (Unavailable("no answer"), "api_error"),
        (Throttled("slow", retry_after=0.001), "throttled"),
        (LeadershipLost("lost"), "not_leader"),
        (KeyError("bug"), "internal_error"),
    ],
)
async def test_an_error_is_tried_again_and_stops_nobody(error: Exception, result: str) -> None:
    async def work(key: NamespacedName) -> PassReport:
        if key == A and pool.runner.passes.count(A) < 3:
            raise error
        return STEADY

    pool = Pool(work)
    async with pool.running():
        pool.queue.add(A)
        pool.queue.add(B)
        await pool.until(lambda: pool.count("steady") == 2)
    assert pool.count(result) == 2
    assert pool.queue.failures(A) == 0
    assert pool.runner.broken == ([(A, "KeyError")] * 2 if result == "internal_error" else [])


async def test_a_pass_in_progress_ends_before_the_pool_does() -> None:
    started, finished = asyncio.Event(), False

    async def work(_: NamespacedName) -> PassReport:
        nonlocal finished
        started.set()
        await asyncio.sleep(0.03)
        finished = True
        return STEADY

    pool = Pool(work)
    async with pool.running():
        pool.queue.add(A)
        await started.wait()
    assert finished


async def test_a_standby_ends_at_once_although_keys_wait() -> None:
    pool = Pool(_steady)
    pool.leads = False
    async with pool.running():
        pool.queue.add(A)
        await asyncio.sleep(0.02)
    assert pool.runner.passes == []


async def test_passes_that_wait_for_nothing_do_not_starve_the_loop() -> None:
    pool = Pool(_steady, resync=0.0)
    async with pool.running():
        pool.queue.add(A)
        for _ in range(50):
            await asyncio.wait_for(asyncio.sleep(0), 1)
    assert len(pool.runner.passes) > 3


async def test_an_instance_that_wants_to_be_repeated_at_once_for_ever_is_slowed_down() -> None:
    async def work(_: NamespacedName) -> PassReport:
        return PassReport(Result.STEADY, requeue_after=0)

    pool = Pool(work)
    async with pool.running():
        pool.queue.add(A)
        await pool.until(lambda: pool.queue.failures(A) >= 5)


async def test_an_instance_that_can_not_be_seen_keeps_no_worker_from_the_others() -> None:
    pool = Pool(_steady, count=1, can_see=lambda key: key != A)
    async with pool.running():
        pool.queue.add(A)
        pool.queue.add(B)
        await pool.until(lambda: pool.runner.passes == [B])
        assert pool.count("unseen") == 1
        assert pool.queue.next_due() is not None  # it is tried again
