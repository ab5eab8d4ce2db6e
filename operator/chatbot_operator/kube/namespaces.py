"""Whether a namespace is terminating: then nothing can be created in it, not even an Event."""

from typing import Final

from chatbot_operator.clock import Clock
from chatbot_operator.errors import KubeError, NotFound
from chatbot_operator.kube.client import KubeClient
from chatbot_operator.kube.kinds import NAMESPACE

GOOD_SECONDS: Final = 30.0


class NamespaceReader:
    """Reads namespaces by name and remembers the answer for 30 seconds."""

    def __init__(self, client: KubeClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._cache: dict[str, tuple[bool, float]] = {}

    async def terminating(self, namespace: str) -> bool | None:
        """Return whether a namespace is terminating (or gone), None while that can't be read."""
        now = self._clock.monotonic()
        known = self._cache.get(namespace)
        if known is not None and now < known[1]:
            return known[0]
        try:
            live = await self._client.get(NAMESPACE.kind, "", namespace)
            answer = "deletionTimestamp" in live["metadata"]
        except NotFound:
            answer = True
        except KubeError:
            return None
        if len(self._cache) > 4096:
            self._cache.clear()
        self._cache[namespace] = (answer, now + GOOD_SECONDS)
        return answer
