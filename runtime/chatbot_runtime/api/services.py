"""What routes need, made once at start and handed over as one value instead of module globals."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import HTTPConnection

from chatbot_runtime.api.feed import Feed
from chatbot_runtime.api.wakes import Wakes
from chatbot_runtime.auth.limits import LoginLimits
from chatbot_runtime.auth.passwords import Passwords
from chatbot_runtime.auth.tokens import Signer
from chatbot_runtime.clock import Clock
from chatbot_runtime.health.board import Board, Finding, Status
from chatbot_runtime.health.monitor import Monitor
from chatbot_runtime.lifecycle import Lifecycle
from chatbot_runtime.queue.enqueue import Backpressure
from chatbot_runtime.queue.intake import Intake
from chatbot_runtime.redis.client import RedisClient
from chatbot_runtime.settings import Settings


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one app process."""

    settings: Settings
    clock: Clock
    lifecycle: Lifecycle
    engine: AsyncEngine
    board: Board
    monitor: Monitor
    signer: Signer
    passwords: Passwords
    limits: LoginLimits
    backpressure: Backpressure
    intake: Intake
    redis: RedisClient
    wakes: Wakes
    feed: Feed
    prepared: asyncio.Event
    started_at: datetime

    def ready(self) -> Finding:
        """Judge whether requests may come: not while stopping, not without a usable database, not before somebody could log in."""
        if self.lifecycle.stopping.is_set():
            return Finding(Status.DOWN, "stopping")
        finding = self.monitor.ready()
        if finding.status is not Status.DOWN and not self.prepared.is_set():
            return Finding(Status.DOWN, "starting")
        return finding


def services_of(conn: HTTPConnection) -> Services:
    """Return the services of the process that got this request."""
    return cast("Services", conn.app.state.services)
