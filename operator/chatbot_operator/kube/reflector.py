"""Watches everything that instances are made of and keeps its projection: one stream a kind, never a list an instance."""

import asyncio
import contextlib
import hashlib
import hmac
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

from chatbot_operator.clock import Clock
from chatbot_operator.constants import LABEL_INSTANCE, LABEL_INSTANCE_UID
from chatbot_operator.errors import NotFound
from chatbot_operator.kube.client import SILENCE_SECONDS, WATCH_SECONDS, KubeClient
from chatbot_operator.kube.kinds import CHILD_KINDS, JOB, POD, SECRET
from chatbot_operator.kube.project import key_of_live
from chatbot_operator.kube.sight import Sight
from chatbot_operator.kube.store import OnChange, OnGone, Store, version_number
from chatbot_operator.kube.stream import LAST_DELAY, Recovery, Stream
from chatbot_operator.model.objects import ChildState, ObjectKey
from chatbot_operator.model.snapshot import SecretFacts

Live = Mapping[str, Any]

BOOKMARK_LAG: Final = 1.0
"""Seconds by which what a bookmark vouches for may lie behind; a list is as new as its request."""
POLL_SECONDS: Final = 0.1
WRITE_SECONDS: Final = 2.0
"""How long the answer to a write of ours is waited for before a Secret is read instead."""
HASH_DIGITS: Final = 20
"""Hex digits kept of a keyed hash: enough to see a change, useless to guess a value without the key and the value's space."""


def hash_secret(live: Live, instance_uid: str) -> SecretFacts:
    """Return the keyed hashes of a Secret's values: HMAC-SHA256 with the instance's uid as key, cut to 20 hex digits."""
    data = live.get("data") or {}
    key = instance_uid.encode()
    digests = {name: hmac.new(key, b64decode(value), hashlib.sha256).hexdigest()[:HASH_DIGITS] for name, value in data.items()}
    return SecretFacts(live["metadata"]["name"], digests)


class Reflectors:
    """The children of all instances as they are now, from watches alone."""

    def __init__(
        self,
        client: KubeClient,
        clock: Clock,
        namespaces: tuple[str, ...],
        on_change: OnChange,
        *,
        on_gone: OnGone = lambda _: None,
        watch_seconds: int = WATCH_SECONDS,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        """Prepare the streams; nothing is asked before `run()`.

        Args:
            client: For lists and watches.
            clock: For activity and settling.
            namespaces: Namespaces to watch; empty means all.
            on_change: Called with (namespace, instance name) when fingerprint, health, details, labels or existence of a child,
                or the content of a Secret, changed.
            on_gone: Called for a child that no longer exists.
            watch_seconds: How long the server keeps one watch open.
            silence_seconds: A watch without a byte for this long is opened anew.
        """
        self._clock = clock
        self._store = Store(clock, on_change, on_gone)
        self._secrets = _SecretHashes(client, self._store, on_change)
        self._jobs_listed: dict[str, asyncio.Event] = {}
        self._streams: list[tuple[str, str, Stream]] = []
        self._sight = Sight(clock, silence_seconds, 1.5 * LAST_DELAY)
        turn, recovery = asyncio.Lock(), Recovery()
        self.namespaces = namespaces or ("",)
        for namespace in self.namespaces:
            for kind in CHILD_KINDS:
                sink = self._secrets.sink(namespace) if kind is SECRET else _Sink(self._store, clock, kind.kind, namespace)
                stream = Stream(
                    client,
                    clock,
                    sink,
                    kind=kind.kind,
                    namespace=namespace,
                    metadata_only=kind is SECRET,
                    watch_seconds=watch_seconds,
                    silence_seconds=silence_seconds,
                    turn=turn,
                    heard=self._sight.heard,
                    recovery=recovery,
                )
                self._streams.append((kind.kind, namespace, stream))
                if kind is JOB:
                    self._jobs_listed[namespace] = stream.synced

    async def run(self) -> None:
        """List and watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            for kind, namespace, stream in self._streams:
                after = self._jobs_listed[namespace] if kind == POD.kind else None
                group.create_task(_run_after(stream, after), name=f"reflector {kind} {namespace}".rstrip())

    def children(self, namespace: str, name: str) -> Mapping[ObjectKey, ChildState]:
        """Return the children of one instance as they are now; the mapping does not change afterwards."""
        return self._store.children(namespace, name)

    def own_secret(self, namespace: str, name: str, instance_uid: str) -> SecretFacts | None:
        """Return the facts of a Secret that carries this instance's uid, or None when there is no such Secret or no hash yet."""
        return self._secrets.facts(namespace, name, instance_uid)

    def has_secret(self, namespace: str, name: str) -> bool:
        """Return whether there is a Secret of this name that an instance, present or past, generated."""
        return self._secrets.has(namespace, name)

    def learn(self, live: Live) -> None:
        """Take in the answer to our own write, so that the next pass need not wait for the watch to deliver it."""
        if live.get("kind") == SECRET.kind:
            self._secrets.learn(live)
        else:
            self._store.put(live)

    def writing(self, key: ObjectKey) -> AbstractContextManager[None]:
        """Say that the answer to a write of this object is under way: what a watch tells of it meanwhile is no reason to read it."""
        return self._secrets.writing(key)

    def synced(self, namespace: str = "") -> bool:
        """Return whether every kind was listed completely at least once: before that, absence proves nothing. Empty means everywhere."""
        return all(stream.synced.is_set() for stream in self._streams_of(namespace))

    async def wait_synced(self) -> tuple[str, ...]:
        """Wait until every namespace is `synced` or refuses to be listed, and at least one is synced; return those that refuse.

        One watched namespace that is gone, and its RoleBinding with it, must not keep the others from being served.
        """
        while not self._settled():  # noqa: ASYNC110 - a start waits for many streams at once
            await asyncio.sleep(POLL_SECONDS)
        return tuple(namespace for namespace in self.namespaces if not self.synced(namespace))

    def blind(self, namespace: str) -> tuple[str, ...]:
        """Return the kinds whose watch has delivered nothing for long while others did: what is known of them may be wrong."""
        return tuple(kind for kind, scope, stream in self._streams if scope in ("", namespace) and self._sight.is_blind(stream.current_at))

    def stale_seconds(self, kind: str) -> float:
        """Return the greatest age of what is known of a kind; quiet kinds reach about a minute, as bookmarks come."""
        now = self._clock.monotonic()
        return max(now - stream.current_at for known, _, stream in self._streams if known == kind)

    def _settled(self) -> bool:
        listed = [namespace for namespace in self.namespaces if self.synced(namespace)]
        others = (namespace for namespace in self.namespaces if namespace not in listed)
        return bool(listed) and all(any(stream.refused for stream in self._streams_of(namespace)) for namespace in others)

    def _streams_of(self, namespace: str) -> list[Stream]:
        """Return the streams that deliver a namespace, all of them for the empty name."""
        return [stream for _, scope, stream in self._streams if not namespace or scope in ("", namespace)]

    def last_activity(self) -> float:
        """Return the monotonic time at which any watch last delivered anything, bookmarks included."""
        return max(stream.last_activity for _, _, stream in self._streams)

    def size(self) -> int:
        """Return the number of children held."""
        return self._store.size()


async def _run_after(stream: Stream, after: asyncio.Event | None) -> None:
    """Run a stream; pods wait for the list of Jobs, so that a pod missing from their own list is known to be gone."""
    if after is not None:
        await after.wait()
    await stream.run()


class _Sink:
    """Delivers one stream into the store."""

    def __init__(self, store: Store, clock: Clock, kind: str, namespace: str) -> None:
        self._store = store
        self._clock = clock
        self._kind = kind
        self._namespace = namespace

    async def put(self, live: Live, asof: float = -1) -> None:
        self._store.put(live, asof)

    async def remove(self, live: Live) -> None:
        self._store.remove(live)

    async def listed(self, seen: set[ObjectKey], asof: float, since: float) -> None:
        self._store.sweep(self._kind, self._namespace, seen, asof)
        if self._kind == POD.kind:
            self._store.pods_current(self._namespace, since)

    async def marked(self) -> None:
        if self._kind == POD.kind:
            self._store.pods_current(self._namespace, self._clock.monotonic() - BOOKMARK_LAG)


class _SecretHashes:
    """Keyed hashes of our own Secrets. Values are hashed where they arrive and never kept."""

    def __init__(self, client: KubeClient, store: Store, on_change: OnChange) -> None:
        self._client = client
        self._store = store
        self._on_change = on_change
        self._known: dict[ObjectKey, tuple[str, str, SecretFacts]] = {}
        """Key -> (instance uid, resourceVersion, facts)."""
        self._writing: dict[ObjectKey, asyncio.Event] = {}

    def sink(self, namespace: str) -> "_SecretSink":
        return _SecretSink(self, self._store, namespace)

    def has(self, namespace: str, name: str) -> bool:
        return ObjectKey(SECRET.kind, namespace, name) in self._known

    def facts(self, namespace: str, name: str, instance_uid: str) -> SecretFacts | None:
        found = self._known.get(ObjectKey(SECRET.kind, namespace, name))
        return found[2] if found is not None and instance_uid and found[0] == instance_uid else None

    def learn(self, live: Live, asof: float = -1) -> None:
        """Hash a Secret that came with its values, then drop them."""
        labels = live["metadata"].get("labels") or {}
        version = live["metadata"]["resourceVersion"]
        key = key_of_live(live)
        old = self._known.get(key)
        if old is not None and asof < version_number(old[1]) > version_number(version):
            return
        uid = labels.get(LABEL_INSTANCE_UID, "")
        facts = hash_secret(live, uid)
        self._known[key] = (uid, version, facts)
        self._store.put(live, asof)
        if old is not None and old[2] != facts:
            self._on_change(key.namespace, labels.get(LABEL_INSTANCE, ""))

    @contextlib.contextmanager
    def writing(self, key: ObjectKey) -> Iterator[None]:
        """Hold back reads of one Secret for the length of a block; the answer to the write in it has the values."""
        over = self._writing[key] = asyncio.Event()
        try:
            yield
        finally:
            over.set()
            self._writing.pop(key, None)

    async def refresh(self, live: Live) -> None:
        """Hash a Secret of which only the metadata came, unless that version is known, or about to be: watches can be first."""
        key = key_of_live(live)
        if key in self._writing:
            with contextlib.suppress(TimeoutError):  # a slow write holds up the news of all Secrets
                await asyncio.wait_for(self._writing[key].wait(), WRITE_SECONDS)
        known = self._known.get(key)
        if known is not None and version_number(known[1]) >= version_number(live["metadata"]["resourceVersion"]):
            return
        try:
            full = await self._client.get(key.kind, key.namespace, key.name)
        except NotFound:
            return
        self.learn({**full, "kind": key.kind})

    def forget(self, key: ObjectKey) -> None:
        self._known.pop(key, None)

    def keep_only(self, namespace: str) -> None:
        """Forget the hashes of Secrets that the store no longer holds."""
        for key in list(self._known):
            if (not namespace or key.namespace == namespace) and not self._store.holds(key):
                del self._known[key]


class _SecretSink:
    """Delivers the stream of Secrets: values in lists, metadata alone in watches."""

    def __init__(self, hashes: _SecretHashes, store: Store, namespace: str) -> None:
        self._hashes = hashes
        self._store = store
        self._namespace = namespace

    async def put(self, live: Live, asof: float = -1) -> None:
        if "type" in live:
            self._hashes.learn(live, asof)
        else:
            await self._hashes.refresh(live)
            self._store.put(live)

    async def remove(self, live: Live) -> None:
        self._store.remove(live)
        self._hashes.forget(key_of_live(live))

    async def listed(self, seen: set[ObjectKey], asof: float, since: float) -> None:
        self._store.sweep(SECRET.kind, self._namespace, seen, asof)
        self._hashes.keep_only(self._namespace)

    async def marked(self) -> None:
        """Bookmarks say nothing about Secrets that matters here."""
