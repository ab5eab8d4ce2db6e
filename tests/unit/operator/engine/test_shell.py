"""Needs nothing: kopf's tasks live and die together, or the process would serve on while deaf to its own kind."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import kopf
import pytest

from chatbot_operator.engine.instances import InstanceStore
from chatbot_operator.engine.queue import WorkQueue
from chatbot_operator.engine.queue_metrics import WorkqueueMetrics
from chatbot_operator.engine.store import NamespacedName
from chatbot_operator.handlers.inbox import Inbox
from chatbot_operator.handlers.shell import Shell
from chatbot_operator.metrics import Metrics
from tests.unit.operator.engine.fakes import FakeClock


async def fail() -> None:
    raise OSError("the watcher broke")


async def end() -> None:
    return


async def go_on() -> None:
    await asyncio.Event().wait()


async def cancel() -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize(("work", "cause"), [(fail, OSError), (end, type(None)), (cancel, type(None))])
async def test_the_end_of_any_task_of_kopf_ends_the_shell(
    work: Callable[[], Awaitable[None]], cause: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 17: a failed watcher task leaves its kind deaf."""
    tasks: list[asyncio.Task[None]] = []
    taken = []

    async def spawn_tasks(**_: Any) -> list[asyncio.Task[None]]:
        tasks.extend(asyncio.ensure_future(one()) for one in (go_on, work, go_on))
        tasks[1].set_name("watcher of chatbotinstances")
        return tasks

    monkeypatch.setattr(kopf, "spawn_tasks", spawn_tasks)
    queue: WorkQueue[NamespacedName] = WorkQueue(FakeClock(), WorkqueueMetrics(Metrics(), "q"))
    inbox = Inbox("chatbotinstances", InstanceStore(), queue, lambda: None, queue.drop)
    shell = Shell([inbox], credentials=None, namespaces=(), take_signals=lambda: taken.append(True))  # type: ignore[arg-type]  # never logs in
    with pytest.raises(RuntimeError, match="'watcher of chatbotinstances' ended") as ended:
        await shell.run()
    assert isinstance(ended.value.__cause__, cause)
    assert all(task.done() for task in tasks)  # none goes on without the others
    assert taken == [True]
