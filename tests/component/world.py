"""The runtime's outside world for scheduler tests: the fake provider, a receiver of its webhooks, and the scheduler as a real process."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncEngine

from chatbot_runtime.channels.cloud.webhook import parse_webhook
from chatbot_runtime.db.engine import autocommit
from chatbot_runtime.errors import DatabaseDown
from chatbot_runtime.queue.ingest import record_inbound
from testbed.providers.cloud_api import Config, Provider
from tests.component.conftest import ACCESS_TOKEN, APP_SECRET
from tests.component.kit import NUMBER, eventually
from tests.component.servers import _free_port, clean_env


@contextlib.asynccontextmanager
async def receiver(engine: AsyncEngine) -> AsyncIterator[str]:
    """Take in webhooks by the functions that the app uses; answer 503 while the database is down, so that the provider repeats them."""

    async def take(request: web.Request) -> web.Response:
        try:
            async with autocommit(engine) as conn:
                await record_inbound(conn, parse_webhook(await request.read(), NUMBER))
        except DatabaseDown:
            return web.Response(status=503)
        return web.Response()

    app = web.Application()
    app.router.add_post("/webhooks/cloud", take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/webhooks/cloud"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def provider(engine: AsyncEngine, **config: Any) -> AsyncIterator[Provider]:
    """Serve the fake provider, whose webhooks reach the database."""
    async with receiver(engine) as url:
        made = Provider(Config(ACCESS_TOKEN, APP_SECRET, webhook_url=url, **{"rate": 0.0, **config}))
        async with made:
            made._phone_number_id = NUMBER
            yield made


def sent_bodies(made: Provider) -> Counter[str]:
    """Count accepted sends by text."""
    return Counter(item["body"]["text"]["body"] for item in made.records.messages)


@dataclass
class Scheduler:
    """The command `scheduler` as a process of its own."""

    env: dict[str, str]
    log: Path
    port: int = field(default_factory=_free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; `ready` waits."""
        env = clean_env({**self.env, "METRICS_PORT": str(self.port)})
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen([sys.executable, "-m", "chatbot_runtime", "scheduler"], env=env, stdout=stream, stderr=stream)

    async def ready(self) -> None:
        """Wait until /readyz says so."""

        async def check() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            return (await self.get("/readyz"))[0] == 200

        await eventually(check, "the scheduler is ready")

    async def get(self, path: str) -> tuple[int, str]:
        """Ask the probe server; (0, "") when nobody listens."""
        try:
            async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.port}{path}") as response:
                return response.status, await response.text()
        except aiohttp.ClientError:
            return 0, ""

    async def metric(self, line: str) -> float | None:
        """Return one sample, such as `chatbot_lane_drift` or `name{label="x"}`; None when it is not exposed."""
        _, text = await self.get("/metrics")
        found = [row.rpartition(" ")[2] for row in text.splitlines() if row.rpartition(" ")[0] == line]
        return float(found[0]) if found else None

    def kill(self) -> None:
        """SIGKILL: nothing gets a chance to tidy up."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=10)
            self.process = None

    async def stop(self) -> int:
        """SIGTERM, and return the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        process, self.process = self.process, None
        return await asyncio.to_thread(process.wait, 30)

    def lines(self) -> list[dict[str, Any]]:
        """Return the log; a line that was cut by a kill is left out."""
        found = []
        for line in self.log.read_text().splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found


@contextlib.contextmanager
def scheduler_process(env: dict[str, str], made: Provider, directory: Path, **extra: str):  # type: ignore[no-untyped-def]
    """Give a scheduler that is not started yet and never outlives the test."""
    running = Scheduler(
        {**env, "WA_API_BASE": made.url, "BOT_QUIET_S": "0", "CLOUD_RATE": "1000", "CLOUD_PAIR_INTERVAL_S": "0", **extra},
        directory / f"scheduler-{os.getpid()}.log",
    )
    try:
        yield running
    finally:
        running.kill()
