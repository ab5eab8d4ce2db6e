"""One pass over one object: gather, decide, write the status if it differs, do the effects. State is persisted before its effect."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, Generic, Protocol, TypeVar, cast

from chatbot_operator.clock import Clock
from chatbot_operator.engine.effects import Executor
from chatbot_operator.engine.status_writer import Patches, status_patch, unknown_patch, write_status
from chatbot_operator.engine.store import NamespacedName, ObjectStore, Tracked
from chatbot_operator.errors import Conflict, NotFound, OperatorError, StatusUnreadable
from chatbot_operator.metrics import Metrics
from chatbot_operator.model.decision import Decision
from chatbot_operator.model.objects import ObjectKey
from chatbot_operator.model.snapshot import EffectFailure, Seen

DECISIONS: Final = 3
"""Decisions in one pass: one, and two more when the object changed under it."""

BLIND_SECONDS: Final = 30.0
"""After how long an object is looked at again while a watch fails; its recovery wakes it sooner."""

S = TypeVar("S", bound=Seen)
"""The snapshot of a kind."""


class Result(StrEnum):
    """How a pass ended; label of `chatbot_operator_passes_total`."""

    STEADY = "steady"
    """Nothing was changed."""
    CHANGED = "changed"
    """Something was changed: look again at once."""
    FAILED = "failed"
    """An effect was refused; the next pass puts it into the status."""
    STALE = "stale"
    """The world had moved on: look again soon."""
    BLIND = "blind"
    """A watch fails, so nothing was decided."""
    GONE = "gone"
    """The object does not exist (any more)."""


@dataclass(frozen=True, slots=True)
class PassReport:
    """What the worker needs to know. `requeue_after` is in seconds, None means at the next wake or resync."""

    result: Result
    requeue_after: float | None = None
    error: bool = False
    over: bool = False
    """Nothing will ever be to do again."""


class Client(Patches, Protocol):
    """What of the API client a pass itself needs."""

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        """Return one object."""


class Observer(Protocol[S]):
    """Gathers what a pass knows (`engine.snapshot`, `engine.backups`)."""

    async def observe(self, key: NamespacedName, held: Tracked[Any], failures: tuple[EffectFailure, ...]) -> S:
        """Return the snapshot of an object."""

    def look_again(self, snapshot: S) -> float | None:
        """Return in how many seconds something that no watch tells may have changed."""


@dataclass(frozen=True, slots=True)
class KindOfPass:
    """The kind that passes are about. `headline` is the condition that people look at first, `what` names one in messages."""

    kind: str
    headline: str
    what: str


class Passes(Generic[S]):
    """Runs the passes of one kind.

    What went wrong in effects is kept here until a status tells it, which then remembers: a restart only tries again.
    """

    def __init__(
        self,
        about: KindOfPass,
        store: ObjectStore[Any],
        observer: Observer[S],
        decide: Callable[[S], Decision],
        executor: Executor,
        client: Client,
        clock: Clock,
        metrics: Metrics,
        blind: Callable[[str], tuple[str, ...]] = lambda _: (),
    ) -> None:
        """Prepare. `blind` returns the kinds of a namespace of which nothing is known any more."""
        self._about = about
        self._store = store
        self._observer = observer
        self._decide = decide
        self._executor = executor
        self._client = client
        self._clock = clock
        self._metrics = metrics
        self._blind = blind
        self._failures: dict[NamespacedName, tuple[tuple[str, int], tuple[EffectFailure, ...]]] = {}
        """With uid and generation that they happened to: neither a successor of the same name nor another spec has any of them."""

    async def run(self, key: NamespacedName) -> PassReport:
        """Make one pass.

        Raises:
            KubeError: The API server can't be used just now, or refuses to be read or to take the status.
            LeadershipLost: This process may change nothing any more.
        """
        for _ in range(DECISIONS):
            held = self._store.get(key)
            if held is None:
                return self._gone(key)
            blind = self._blind(key.namespace)
            try:
                return await (self._tell_blind(key, held, blind) if blind else self._decide_and_act(key, held))
            except Conflict:
                await self._refresh(key, held)
            except NotFound:
                self._store.remove(key, held.uid)
        return PassReport(Result.STALE)

    async def _decide_and_act(self, key: NamespacedName, held: Tracked[Any]) -> PassReport:
        body = held.read()
        snapshot = await self._observer.observe(key, held, self._failures_of(key, (held.uid, body["metadata"]["generation"])))
        decision = self._decide(snapshot)
        written = await self._write(key, held, status_patch(body["status"], decision.status))
        self._failures.pop(key, None)
        return await self._act(key, _now_at(snapshot, written), decision)

    async def _tell_blind(self, key: NamespacedName, held: Tracked[Any], kinds: tuple[str, ...]) -> PassReport:
        """Say that nobody knows how the object is. Nothing is decided on what is no longer seen."""
        what = (
            f"the operator no longer sees changes of {', '.join(kinds)}, so nobody knows how the {self._about.what} is; nothing is changed"
        )
        await self._write_unknown(key, held, "WatchFailing", f"{what}; its log says why (watch.failing): look at its permissions")
        return PassReport(Result.BLIND, BLIND_SECONDS)

    async def mark_broken(self, key: NamespacedName, error: BaseException) -> None:
        """Say in the status that passes of this object fail: unknown is never healthy. Nothing but its headline is read or written.

        The text of an unexpected error may hold anything and stays in the log.

        Raises:
            KubeError: The status could not be written.
            LeadershipLost: This process may change nothing any more.
        """
        held = self._store.get(key)
        if held is None:
            return
        if isinstance(error, StatusUnreadable):
            await self._write_unknown(key, held, error.reason, str(error))
            return
        failed = (
            f"the operator failed while looking at this {self._about.what} ({type(error).__name__}); it tries again, and its log says more"
        )
        await self._write_unknown(key, held, OperatorError.reason, failed)

    async def _write_unknown(self, key: NamespacedName, held: Tracked[Any], reason: str, message: str) -> None:
        body = held.read()
        patch = unknown_patch(body["status"], body["metadata"]["generation"], reason, message, self._now(), self._about.headline)
        await self._write(key, held, patch)

    async def _act(self, key: NamespacedName, snapshot: S, decision: Decision) -> PassReport:
        report = await self._executor.execute(snapshot, decision.effects)
        if report.failures:
            self._remember(key, (snapshot.identity.uid, snapshot.identity.generation), report.failures)
        outcome = decision.outcome
        waits = [wait for wait in (outcome.requeue_after, self._observer.look_again(snapshot)) if wait is not None]
        after = min(waits, default=None)
        if report.stale:
            return PassReport(Result.STALE, after)
        if report.failures:
            return PassReport(Result.FAILED, after)
        return PassReport(Result.CHANGED if report.changed else Result.STEADY, after, outcome.error, outcome.over)

    async def _write(self, key: NamespacedName, held: Tracked[Any], patch: Mapping[str, Any]) -> str:
        """Write the status if it differs and return the object's resourceVersion after that."""
        target = ObjectKey(self._about.kind, key.namespace, key.name)
        try:
            live = await write_status(self._client, target, uid=held.uid, resource_version=held.resource_version, patch=patch)
        except Conflict:
            self._metrics.status_writes.labels("conflict").inc()
            raise
        if live is None:
            return held.resource_version
        self._metrics.status_writes.labels("written").inc()
        self._store.put(live)
        return str(live["metadata"]["resourceVersion"])

    async def _refresh(self, key: NamespacedName, held: Tracked[Any]) -> None:
        """Get the object: the watch lags behind, or the server's history went back, and the decision was made on another version."""
        try:
            live = await self._client.get(self._about.kind, key.namespace, key.name)
        except NotFound:
            self._store.remove(key, held.uid)
            return
        self._store.believe(live, held)

    def _failures_of(self, key: NamespacedName, version: tuple[str, int]) -> tuple[EffectFailure, ...]:
        whose, failures = self._failures.get(key, (("", 0), ()))
        return failures if whose == version else ()

    def _remember(self, key: NamespacedName, version: tuple[str, int], failures: tuple[EffectFailure, ...]) -> None:
        """Keep the failures of the last effects, and those of objects that still exist: most end without a last pass."""
        self._failures = {other: kept for other, kept in self._failures.items() if self._store.get(other) is not None}
        self._failures[key] = (version, failures)

    def _gone(self, key: NamespacedName) -> PassReport:
        self._failures.pop(key, None)
        return PassReport(Result.GONE)

    def _now(self) -> str:
        return self._clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")


def _now_at(snapshot: S, resource_version: str) -> S:
    """Return the snapshot with the version that our own status write made: nothing else changed, or it would have been refused."""
    identity = replace(snapshot.identity, resource_version=resource_version)
    return cast(S, replace(cast(Any, snapshot), identity=identity))
