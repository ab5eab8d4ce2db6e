"""Start and end of a long-running process: signals, drain, and the loop it runs in.

run(main)            starts the loop, calls `main(lifecycle)` and returns its exit code
SIGTERM or SIGINT    -> `stopping` is set; loops leave at their next `pause`; work in flight ends within the drain time
a second signal      -> the process ends at once, with 128 + signal
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import structlog
import uvloop

log = structlog.get_logger(__name__)


class Lifecycle:
    """Knows whether the process is stopping and how much work is in flight."""

    def __init__(self, drain_timeout_s: float) -> None:
        self.drain_timeout_s = drain_timeout_s
        self.stopping = asyncio.Event()
        self._in_flight = 0

    @property
    def in_flight(self) -> int:
        """Units of work that have begun and not ended."""
        return self._in_flight

    def install_signals(self) -> None:
        """Let SIGTERM and SIGINT stop the process; needs a running loop in the main thread."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._on_signal, signum)

    def _on_signal(self, signum: signal.Signals) -> None:
        if self.stopping.is_set():
            os._exit(128 + signum)
        log.info("stopping", signal=signum.name, in_flight=self._in_flight)
        self.stopping.set()

    @contextlib.contextmanager
    def work(self) -> Iterator[None]:
        """Count the body as work in flight."""
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    async def pause(self, seconds: float) -> bool:
        """Sleep, but wake when the process stops.

        Returns:
            Whether the process is stopping, so that a loop reads `while not await lifecycle.pause(5): …`.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)
        return self.stopping.is_set()


async def first_of(*waits: Coroutine[Any, Any, Any], timeout_s: float | None = None) -> None:
    """Wait until one of several waits is over, or the time is; the others are cancelled."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def run(main: Callable[[Lifecycle], Awaitable[int]], drain_timeout_s: float) -> int:
    """Run a long-running command to its end.

    Args:
        main: gets the lifecycle, with signals installed, and returns the exit code.
        drain_timeout_s: seconds that work in flight may take after SIGTERM.
    """

    async def start() -> int:
        lifecycle = Lifecycle(drain_timeout_s)
        lifecycle.install_signals()
        return await main(lifecycle)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(start())
