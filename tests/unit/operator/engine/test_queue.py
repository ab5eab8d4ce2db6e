"""The work queue as workers see it: waiting, waking, closing, and that nothing starves."""

import asyncio
from typing import Any

import pytest

from chatbot_operator.clock import SystemClock
from chatbot_operator.engine.queue import Priority, ShutDown, WorkQueue
from chatbot_operator.engine.queue_metrics import WorkqueueMetrics
from chatbot_operator.metrics import Metrics
from tests.unit.operator.engine.fakes import FakeClock


def _value(metrics: Metrics, name: str) -> float:
    return metrics.registry.get_sample_value(name, {"name": "q"}) or 0.0


def _queue(clock: Any = None, **options: Any) -> tuple[WorkQueue[str], Metrics]:
    metrics = Metrics()
    return WorkQueue(clock or FakeClock(), WorkqueueMetrics(metrics, "q"), **options), metrics


async def test_get_waits_for_a_key_that_is_added_later() -> None:
    queue, _ = _queue(SystemClock())
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    assert await waiting == "a"


async def test_get_wakes_for_a_due_time_although_nothing_is_added() -> None:
    queue, _ = _queue(SystemClock())
    queue.add_after("a", 0.02)
    assert await queue.get() == "a"


async def test_an_earlier_due_time_that_comes_later_wakes_a_waiting_get() -> None:
    queue, _ = _queue(SystemClock())
    queue.add_after("late", 600)
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add_after("soon", 0.01)
    assert await waiting == "soon"


async def test_every_waiting_worker_gets_a_key_when_several_are_added() -> None:
    queue, _ = _queue(SystemClock())
    workers = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    for key in "abc":
        queue.add(key)
    assert sorted(await asyncio.gather(*workers)) == ["a", "b", "c"]


async def test_close_releases_waiting_workers_and_hands_out_nothing_more() -> None:
    queue, _ = _queue(SystemClock())
    queue.add("running")
    assert await queue.get() == "running"
    workers = [asyncio.create_task(queue.get()) for _ in range(2)]
    await asyncio.sleep(0)
    queue.close()
    assert all(isinstance(end, ShutDown) for end in await asyncio.gather(*workers, return_exceptions=True))
    queue.add("more")
    queue.done("running")
    with pytest.raises(ShutDown):
        await queue.get()


def test_what_people_wait_for_overtakes_resyncs_but_never_for_ever() -> None:
    clock = FakeClock()
    queue, _ = _queue(clock, aging=30.0)
    queue.add("resync", Priority.LOW)
    served = []
    for second in range(60):
        queue.add(f"urgent-{second}")
        key = queue.take()
        assert key is not None
        served.append(key)
        queue.done(key)
        clock.advance(1)
    assert served[0] == "urgent-0"
    assert "resync" in served


def test_a_thousand_resyncs_do_not_delay_one_change() -> None:
    queue, _ = _queue()
    for number in range(1000):
        queue.add(f"r{number}", Priority.LOW)
    queue.add("changed")
    assert queue.take() == "changed"


def test_many_adds_while_a_key_is_processed_make_one_more_pass() -> None:
    queue, metrics = _queue()
    queue.add("a")
    assert queue.take() == "a"
    for _ in range(100):
        queue.add("a")
    assert queue.take() is None
    queue.done("a")
    assert queue.take() == "a"
    queue.done("a")
    assert queue.take() is None
    assert _value(metrics, "workqueue_adds_total") == 2


def test_metrics_carry_workqueues_names() -> None:
    clock = FakeClock()
    metrics = Metrics()
    observer = WorkqueueMetrics(metrics, "q")
    queue: WorkQueue[str] = WorkQueue(clock, observer)
    observer.watch_processing(lambda: queue.processing, clock.monotonic)
    queue.add("a")
    queue.add("b")
    assert _value(metrics, "workqueue_depth") == 2
    clock.advance(3)
    queue.take()
    clock.advance(4)
    assert _value(metrics, "workqueue_unfinished_work_seconds") == 4
    assert _value(metrics, "workqueue_longest_running_processor_seconds") == 4
    queue.done("a")
    queue.add_rate_limited("a")
    assert _value(metrics, "workqueue_depth") == 1
    assert _value(metrics, "workqueue_queue_duration_seconds_sum") == 3
    assert _value(metrics, "workqueue_work_duration_seconds_sum") == 4
    assert _value(metrics, "workqueue_retries_total") == 1
    assert _value(metrics, "workqueue_longest_running_processor_seconds") == 0
