"""Facts about Secrets: which keys exist and a keyed hash of each value; a value never stays in memory."""

import random
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import structlog

from chatbot_operator.clock import Clock
from chatbot_operator.errors import Forbidden, NotFound, Unavailable
from chatbot_operator.kube.client import KubeClient
from chatbot_operator.kube.kinds import SECRET
from chatbot_operator.kube.reflector import Reflectors, hash_secret
from chatbot_operator.model.snapshot import SecretFacts

FOUND_SECONDS: Final = 600.0
"""How old what is known of a found Secret may get at most."""
MISSING_SECONDS: Final = (5.0, 10.0, 20.0, 40.0, 60.0)
FORGET_SECONDS: Final = 3600.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Entry:
    """What a read told. `read` is False where it was refused: then nobody knows whether the Secret exists."""

    facts: SecretFacts | None
    misses: int
    read_at: float
    good_until: float
    read: bool = True


class SecretReader:
    """Reads own Secrets from the reflector, and referenced ones by name: at least every 10 minutes, sooner while missing."""

    def __init__(self, client: KubeClient, clock: Clock, reflectors: Reflectors) -> None:
        self._client = client
        self._clock = clock
        self._reflectors = reflectors
        self._cache: dict[tuple[str, str, str], _Entry] = {}

    async def facts(
        self, namespace: str, names: Iterable[str], instance_uid: str, own: Container[str] = ()
    ) -> Mapping[str, SecretFacts | None]:
        """Return the facts of each named Secret, None where it does not exist. One that can't be read is left out.

        Args:
            namespace: Of the instance and its Secrets.
            names: Own and referenced Secrets.
            instance_uid: Key of the hashes, so that equal values of different instances don't show as equal.
            own: Names that only our own Secrets may have: what the watch does not show of these does not exist, or is not ours.
                One that an earlier instance left is shown, but hashed with another key, so it is read again.

        Raises:
            KubeError: The API server is away, or wants us to slow down.
        """
        found: dict[str, SecretFacts | None] = {}
        for name in names:
            known = self._reflectors.own_secret(namespace, name, instance_uid)
            if known is None and (name not in own or self._reflectors.has_secret(namespace, name)):
                entry = await self._referenced(namespace, name, instance_uid)
                if entry.read:
                    found[name] = entry.facts
            else:
                self._cache.pop((namespace, name, instance_uid), None)  # the watch tells by now: nothing to look for
                found[name] = known
        return found

    def next_check(self, namespace: str, names: Iterable[str], instance_uid: str) -> float | None:
        """Return in how many seconds the first Secret that no watch shows is read again; None when there is none among the names.

        A missing one may appear, and a found one may get other values.
        """
        now = self._clock.monotonic()
        entries = (self._cache.get((namespace, name, instance_uid)) for name in names)
        waits = [max(0.0, entry.good_until - now) for entry in entries if entry is not None]
        return min(waits) if waits else None

    async def _referenced(self, namespace: str, name: str, instance_uid: str) -> _Entry:
        key = (namespace, name, instance_uid)
        now = self._clock.monotonic()
        old = self._cache.get(key)
        if old is not None and now < old.good_until:
            return old
        misses = old.misses + 1 if old is not None else 1
        again = now + MISSING_SECONDS[min(misses, len(MISSING_SECONDS)) - 1]
        try:
            live = await self._client.get(SECRET.kind, namespace, name)
        except NotFound:
            entry = _Entry(None, misses, now, again)
        except (Forbidden, Unavailable) as error:
            if error.status is None:  # no answer at all: says nothing about this Secret
                raise
            if misses == 1:
                _log.warning("secret.not_read", namespace=namespace, secret=name, reason=error.reason, error=str(error))
            # One refusal among many reads may pass by itself; what was found is believed until the next one.
            believed = old is not None and old.read and misses == 1
            entry = (
                replace(old, misses=misses, good_until=again) if old is not None and believed else _Entry(None, misses, now, again, False)
            )
        else:
            entry = _Entry(hash_secret(live, instance_uid), 0, now, now + FOUND_SECONDS * random.uniform(0.8, 1.0))  # noqa: S311 jitter
        self._cache = {k: v for k, v in self._cache.items() if v.read_at + FORGET_SECONDS > now}
        self._cache[key] = entry
        return entry
