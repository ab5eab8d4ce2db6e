"""The one loop that all endless work of the scheduler runs in: it stops when asked, and waits while the database can't be used."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from chatbot_runtime.db.engine import UNREACHABLE
from chatbot_runtime.errors import DatabaseDown
from chatbot_runtime.health.board import Status
from chatbot_runtime.health.monitor import Monitor
from chatbot_runtime.lifecycle import Lifecycle, first_of

WAIT_S: Final = 0.5

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Work:
    """Endless work.

    Attributes:
        name: for logs.
        step: does what there is to do now and returns how much it was; must be harmless to repeat.
        idle: waits after a step that had nothing to do.
        suspend: called while the database can't be used; takes back what would no longer be true.
    """

    name: str
    step: Callable[[Lifecycle], Awaitable[int]]
    idle: Callable[[], Awaitable[object]]
    suspend: Callable[[], None] = lambda: None


async def keep(work: Work, lifecycle: Lifecycle, monitor: Monitor) -> None:
    """Do work until the process stops. Nothing is done on a schema that does not fit this release.

    What a person must mend is said once: the probe need not see it, such as a right on one table that only this work uses.
    """
    told = UNREACHABLE
    while not lifecycle.stopping.is_set():
        if monitor.ready().status is Status.DOWN:
            work.suspend()
            await lifecycle.pause(WAIT_S)
            continue
        try:
            done = await work.step(lifecycle)
        except DatabaseDown as error:
            write = log.debug if error.reason in (UNREACHABLE, told) else log.warning
            write("work_waits", work=work.name, reason=str(error))
            told = error.reason
            monitor.nudge()
            work.suspend()
            await lifecycle.pause(WAIT_S)
            continue
        told = UNREACHABLE
        if not done:
            await first_of(work.idle(), lifecycle.stopping.wait())  # type: ignore[arg-type]  # an async function's result
