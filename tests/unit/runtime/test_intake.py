"""What waits to be stored is always followed by a writer, also after a fault of ours has ended one. Needs nothing."""

import asyncio

import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from chatbot_runtime.errors import DatabaseDown
from chatbot_runtime.queue import intake as module
from chatbot_runtime.queue.inbound import Inbound
from chatbot_runtime.queue.intake import TOGETHER_MAX, WRITERS, Intake

COUNT = TOGETHER_MAX * (WRITERS + 1) + 1


class Fault(Exception):
    """What nobody foresaw."""


class Recorder(Intake):
    """An intake whose first statements fail as told; nothing is connected."""

    def __init__(self, *faults: BaseException) -> None:
        super().__init__(create_async_engine("postgresql+asyncpg://nobody@127.0.0.1:1/none"), quiet_s=0)
        self.faults = list(faults)
        self.recorded = 0

    async def _record(self, *deliveries: Inbound) -> None:
        await asyncio.sleep(0)
        if self.faults:
            raise self.faults.pop(0)
        self.recorded += len(deliveries)


async def store(intake: Intake, count: int = COUNT) -> list[object]:
    async with asyncio.timeout(30):
        return await asyncio.gather(*(intake.store(Inbound()) for _ in range(count)), return_exceptions=True)


async def test_a_fault_fails_its_own_batch_and_strands_nobody() -> None:
    intake = Recorder(*[Fault()] * WRITERS)
    done = await store(intake)
    failed = [item for item in done if isinstance(item, Fault)]
    assert (len(failed), done.count(None)) == (COUNT - intake.recorded, intake.recorded)
    assert intake.recorded > 0


async def test_a_fault_while_one_after_the_other_is_tried_fails_the_rest_of_its_batch() -> None:
    done = await store(Recorder(DBAPIError("", None, Exception()), Fault()), 5)
    assert [type(item) for item in done] == [Fault] * 5


async def test_what_comes_while_the_last_writer_ends_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WRITERS", 1)
    late: list[asyncio.Task[None]] = []

    class Late(Recorder):
        async def _write(self) -> None:
            await super()._write()
            if not late:  # its first step comes before this writer's end is known
                late.append(asyncio.create_task(self.store(Inbound())))

    intake = Late()
    async with asyncio.timeout(30):
        await intake.store(Inbound())
        await asyncio.gather(*late)
    assert intake.recorded == 2


async def test_the_end_of_the_process_is_told_to_all_that_wait() -> None:
    intake = Recorder()
    tasks = [asyncio.create_task(intake.store(Inbound())) for _ in range(COUNT)]
    await asyncio.sleep(0)
    for writer in list(intake._writers):
        writer.cancel()
    async with asyncio.timeout(30):
        done = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(item is None or isinstance(item, DatabaseDown) for item in done)
    assert any(isinstance(item, DatabaseDown) for item in done)
