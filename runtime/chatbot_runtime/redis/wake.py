"""Wakes loops in other processes through Redis. A lost wake costs at most one poll, so nothing here is retried or raises."""

import asyncio
import contextlib
from collections.abc import Mapping
from enum import StrEnum

import structlog
from redis.exceptions import RedisError

from chatbot_runtime.redis.client import RETRY_AFTER_S, RedisClient, RedisDown

log = structlog.get_logger(__name__)


class Topic(StrEnum):
    """What there is to do."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"
    STATUS = "status"


async def publish(redis: RedisClient, topic: Topic) -> None:
    """Tell other processes, after the commit, that there is work."""
    if redis.configured:
        with contextlib.suppress(RedisDown):
            await redis.run("PUBLISH", f"{redis.prefix}wake", topic.value)


class Waker:
    """Lets loops of this process wait for a wake, from here or from Redis."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        self._events: Mapping[Topic, asyncio.Event] = {topic: asyncio.Event() for topic in Topic}

    def wake(self, topic: Topic) -> None:
        """Wake the loop of this process."""
        self._events[topic].set()

    async def wait(self, topic: Topic, seconds: float) -> None:
        """Wait for a wake, at most so long."""
        event = self._events[topic]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), seconds)
        event.clear()

    async def listen(self) -> None:
        """Forward wakes from Redis until cancelled; does nothing when Redis is not configured."""
        while self._redis.configured:
            try:
                async with self._redis.raw.pubsub() as subscription:
                    await subscription.subscribe(f"{self._redis.prefix}wake")
                    while True:
                        await self._forward(await subscription.get_message(ignore_subscribe_messages=True, timeout=5))
            except (RedisError, OSError, TimeoutError):
                await asyncio.sleep(RETRY_AFTER_S)

    async def _forward(self, message: Mapping[str, object] | None) -> None:
        if message is not None and message.get("data") in set(Topic):
            self.wake(Topic(str(message["data"])))
