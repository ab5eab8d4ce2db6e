"""A Redis client that fails fast: one log line a transition, and while Redis is gone callers learn it at once, without a timeout."""

import time
from typing import Any, Final

import redis.asyncio as aioredis
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from chatbot_runtime import metrics
from chatbot_runtime.errors import RuntimeFault
from chatbot_runtime.health.board import Finding, Status
from chatbot_runtime.settings import Settings

TIMEOUT_S: Final = 0.5
"""Longest wait for a connection or an answer; everything here has a way to go on without Redis."""

RETRY_AFTER_S: Final = 1.0
"""After a failure nobody tries again for this long."""

log = structlog.get_logger(__name__)


class RedisDown(RuntimeFault):
    """Redis does not answer, or is not configured."""


class RedisClient:
    """Runs commands, and knows whether they succeed."""

    def __init__(self, url: str | None, *, prefix: str) -> None:
        self.prefix = prefix
        self._down_until = 0.0
        self._status: Status | None = None
        self._redis = (
            None
            if url is None
            else aioredis.Redis.from_url(
                url,
                socket_timeout=TIMEOUT_S,
                socket_connect_timeout=TIMEOUT_S,
                retry=Retry(NoBackoff(), 0),
                max_connections=20,
                decode_responses=True,
            )
        )

    @classmethod
    def of(cls, settings: Settings) -> "RedisClient":
        """Make the client of a process; it connects when first used. All keys start with the instance's name."""
        url = settings.redis_url.get_secret_value() if settings.redis_url else None
        return cls(url, prefix=f"chatbot:{settings.instance_name}:")

    @property
    def configured(self) -> bool:
        """Whether there is a Redis at all."""
        return self._redis is not None

    @property
    def raw(self) -> "aioredis.Redis":
        """The library's client, for a subscription, which has its own way to wait.

        Raises:
            RedisDown: Redis is not configured.
        """
        if self._redis is None:
            raise RedisDown("Redis is not configured")
        return self._redis

    async def run(self, *command: str | int) -> Any:
        """Run a command, such as `run("GET", key)`.

        Raises:
            RedisDown: it failed, or the last failure is less than a second ago.
        """
        if time.monotonic() < self._down_until:
            raise RedisDown("Redis failed a moment ago")
        try:
            result = await self.raw.execute_command(*command)  # type: ignore[no-untyped-call]  # untyped in the library
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(error)
            raise RedisDown(f"Redis failed ({type(error).__name__})") from error
        self._succeeded()
        return result

    async def check(self) -> Finding:
        """Ask Redis whether it is there; never raises. Degraded at worst, as nothing is lost without it."""
        if not self.configured:
            return Finding(Status.OK, "not configured")
        try:
            await self.run("PING")
        except RedisDown as error:
            return Finding(Status.DEGRADED, str(error))
        return Finding(Status.OK)

    async def close(self) -> None:
        """Close all connections."""
        if self._redis is not None:
            await self._redis.aclose()

    def _failed(self, error: Exception) -> None:
        self._down_until = time.monotonic() + RETRY_AFTER_S
        metrics.REDIS_ERRORS.inc()
        metrics.REDIS_UP.set(0)
        if self._status is not Status.DOWN:
            log.warning("redis_down", error=type(error).__name__)
        self._status = Status.DOWN

    def _succeeded(self) -> None:
        metrics.REDIS_UP.set(1)
        metrics.REDIS_LAST_SUCCESS.set_to_current_time()
        if self._status is Status.DOWN:
            log.info("redis_up")
        self._status = Status.OK
