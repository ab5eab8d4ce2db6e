"""Probes the components again and again, so that health endpoints answer at once from the board and never wait for what is broken."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import structlog

from chatbot_runtime import metrics
from chatbot_runtime.clock import Clock
from chatbot_runtime.health.board import DATABASE, Board, Finding, Status
from chatbot_runtime.lifecycle import Lifecycle, first_of

Probe = Callable[[], Awaitable[Mapping[str, Finding]]]
"""Finds out about some components, by name. Must end within its own time limit and turn the failures it knows into findings."""

INTERVAL_S: Final = 2.0
STALE_S: Final = 15.0
"""Without a finished round for longer, nothing on the board is believed any more."""

LEVEL: Final[Mapping[Status, float]] = {Status.OK: 1.0, Status.DEGRADED: 0.5, Status.DOWN: 0.0}

log = structlog.get_logger(__name__)


class Monitor:
    """Runs probes in rounds and writes the board and its metrics."""

    def __init__(self, board: Board, clock: Clock, probes: Sequence[Probe]) -> None:
        self._board = board
        self._clock = clock
        self._probes = probes
        self._nudged = asyncio.Event()
        self._finished_at: float | None = None

    def nudge(self) -> None:
        """Ask for a round now, because somebody has just seen a failure."""
        self._nudged.set()

    def stale(self) -> bool:
        """Whether the last finished round is too old to be believed; unknown is never healthy."""
        return self._finished_at is None or self._clock.monotonic() - self._finished_at > STALE_S

    def overall(self) -> Status:
        """Return the verdict on the whole."""
        return Status.DOWN if self.stale() else self._board.overall()

    def ready(self) -> Finding:
        """Judge whether this process can do its work: the database answers and its schema fits. Redis does not count."""
        database = self._board.get(DATABASE)
        if database is None or self.stale():
            return Finding(Status.DOWN, "the database has not been checked lately")
        return Finding(database.status, database.message)

    async def round(self) -> None:
        """Probe every component once, all at the same time."""
        findings = await asyncio.gather(*(probe() for probe in self._probes))
        now = self._clock.now()
        for name, finding in (item for found in findings for item in found.items()):
            if self._board.update(name, finding, now):
                write = log.info if finding.status is Status.OK else log.warning
                write("component", component=name, status=finding.status, message=finding.detail or finding.message)
        for item in self._board.components():
            metrics.COMPONENT_UP.labels(item.name).set(LEVEL[item.status])
            metrics.COMPONENT_SINCE.labels(item.name).set(item.since.timestamp())
        self._finished_at = self._clock.monotonic()
        metrics.HEALTHZ_STATUS.set(LEVEL[self._board.overall()])

    async def run(self, lifecycle: Lifecycle) -> None:
        """Do rounds until the process stops."""
        while not lifecycle.stopping.is_set():
            self._nudged.clear()
            await self.round()
            await first_of(self._nudged.wait(), lifecycle.stopping.wait(), timeout_s=INTERVAL_S)
