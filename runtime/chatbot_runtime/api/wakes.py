"""Tells the scheduler that there is work, off the request path: a flood of webhooks is a few publishes, and no answer waits for Redis."""

import asyncio

from chatbot_runtime.lifecycle import Lifecycle, first_of
from chatbot_runtime.redis.client import RedisClient
from chatbot_runtime.redis.wake import Topic, publish


class Wakes:
    """Collects topics and publishes each once a round. A wake that is lost costs the scheduler one poll, nothing else."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        self._topics: set[Topic] = set()
        self._there_are = asyncio.Event()

    def soon(self, topic: Topic) -> None:
        """Publish a topic as soon as the loop has time; call it after the commit."""
        self._topics.add(topic)
        self._there_are.set()

    async def run(self, lifecycle: Lifecycle) -> None:
        """Publish until the process stops; what comes in afterwards is found by the scheduler's poll."""
        while not lifecycle.stopping.is_set():
            await first_of(self._there_are.wait(), lifecycle.stopping.wait())
            self._there_are.clear()
            topics, self._topics = self._topics, set()
            for topic in sorted(topics):
                await publish(self._redis, topic)
