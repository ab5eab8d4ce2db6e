"""Does what a pass decided, one effect after the other; each is safe to do twice, and what fails is told to the next pass."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Protocol, assert_never

import structlog

from chatbot_operator.clock import Clock
from chatbot_operator.constants import FINALIZER, LABEL_INSTANCE
from chatbot_operator.engine.contest import Contests, lost_fields
from chatbot_operator.engine.secret_values import make_secret
from chatbot_operator.errors import (
    Conflict,
    FieldConflict,
    ImmutableFieldChanged,
    Invalid,
    KubeError,
    NotFound,
    Throttled,
    Unavailable,
)
from chatbot_operator.metrics import Metrics
from chatbot_operator.model.effect import Apply, CreateSecret, Delete, Effect, Emit, PatchMetadata, SetFinalizer
from chatbot_operator.model.objects import Manifest, ObjectKey, key_of
from chatbot_operator.model.snapshot import EffectFailure, Seen

Live = dict[str, Any]

DELETED_SECONDS: Final = 30.0
"""How long a deletion that was accepted is not asked for again while the watch has not shown it yet."""

_log = structlog.get_logger(__name__)


class Client(Protocol):
    """What of the API client effects need; `kube/client.py` says what each raises."""

    async def get(self, kind: str, namespace: str, name: str) -> Live:
        """Return one object."""

    async def create(self, manifest: Manifest) -> Live:
        """Create one object."""

    async def apply(self, manifest: Manifest, uid: str = "") -> Live:
        """Server-side apply."""

    async def merge_patch(self, key: ObjectKey, patch: Mapping[str, Any], *, uid: str = "") -> Live:
        """JSON merge patch."""

    async def json_patch(self, key: ObjectKey, operations: Sequence[Mapping[str, Any]]) -> Live:
        """JSON patch."""

    async def delete(self, key: ObjectKey, uid: str) -> bool:
        """Delete one object."""


class Children(Protocol):
    """Where the children of instances are known (`kube/reflector.py`)."""

    def learn(self, live: Live) -> None:
        """Take in the answer to a write."""

    def writing(self, key: ObjectKey) -> AbstractContextManager[None]:
        """Say that the answer to a write of this object is under way, so that nobody reads it meanwhile."""


class Recorder(Protocol):
    """Where Events go."""

    async def emit(self, about: Any, effect: Emit) -> bool:
        """Create the Event; never raises."""


@dataclass(frozen=True, slots=True)
class Report:
    """What became of the effects of a pass. `changed`: at least one was tried; `stale`: one met a world newer than the snapshot."""

    changed: bool
    stale: bool
    failures: tuple[EffectFailure, ...]


class Executor:
    """Executes effects. What the API answers to a write is taken in at once, so that the next pass sees it."""

    def __init__(
        self,
        client: Client,
        recorder: Recorder,
        contests: Contests,
        clock: Clock,
        metrics: Metrics,
        *,
        children: Children,
        learn_own: Callable[[Live], object],
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._contests = contests
        self._clock = clock
        self._metrics = metrics
        self._children = children
        self._learn_own = learn_own
        self._deleted: dict[str, float] = {}

    async def execute(self, snapshot: Seen, effects: Sequence[Effect]) -> Report:
        """Do the effects in order. One that is refused does not keep the others from being tried.

        Raises:
            LeadershipLost: Nothing may be changed any more; the rest was not tried.
            Unavailable: The API server gave no answer; the rest was not tried.
            Throttled: The API server asked to slow down; the rest was not tried.
        """
        changed = stale = False
        failures: list[EffectFailure] = []
        for effect in effects:
            name = type(effect).__name__
            try:
                did = await self._do(snapshot, effect)
            except (Conflict, NotFound) as error:
                _log.info("effect.stale", effect=name, target=error.target, reason=error.reason)
                self._metrics.effects.labels(name, "stale").inc()
                stale = changed = True
            except KubeError as error:
                self._metrics.effects.labels(name, "failed").inc()
                if _whole_api(error):
                    raise
                changed = True
                failures.append(_failure(snapshot, effect, error))
                _log.warning("effect.failed", effect=name, target=error.target, reason=error.reason, error=str(error))
            else:
                self._metrics.effects.labels(name, "done" if did else "skipped").inc()
                changed = changed or (did and not isinstance(effect, Emit))
        return Report(changed, stale, tuple(failures))

    async def _do(self, snapshot: Seen, effect: Effect) -> bool:
        """Do one effect; return False when there was nothing to do."""
        match effect:
            case Apply():
                return await self._apply(effect)
            case CreateSecret():
                return await self._create_secret(snapshot, effect)
            case Delete():
                return await self._delete(effect)
            case Emit():
                return await self._emit(snapshot, effect)
            case SetFinalizer():
                return await self._set_finalizer(snapshot, effect)
            case PatchMetadata():
                metadata = {"annotations": dict(effect.annotations), "labels": dict(effect.labels)}
                patch = {"metadata": {name: value for name, value in metadata.items() if value}}
                return await self._learned(effect.key, self._client.merge_patch(effect.key, patch, uid=effect.uid))
            case _:
                assert_never(effect)

    async def _learned(self, key: ObjectKey, request: Awaitable[Live]) -> bool:
        with self._children.writing(key):
            self._children.learn(await request)
        return True

    async def _apply(self, effect: Apply) -> bool:
        """Apply; when the same content goes onto the same object again, somebody took our fields: find out who, and count."""
        key = key_of(effect.manifest)
        repeat = bool(effect.uid) and self._contests.is_repeat(key, effect.uid, effect.fingerprint)
        lost: Mapping[str, tuple[str, ...]] = {}
        if repeat:
            lost = lost_fields(await self._client.get(key.kind, key.namespace, key.name), effect.manifest)
        live = await self._client.apply(effect.manifest, effect.uid)
        self._children.learn(live)
        self._contests.applied(key, live["metadata"]["uid"], effect.fingerprint)
        if repeat:
            self._contests.forced(key, effect.fingerprint, lost)
            self._metrics.forced_applies.labels(key.kind).inc()
            _log.info("apply.forced", target=str(key), fields=dict(lost))
        return True

    async def _create_secret(self, snapshot: Seen, effect: CreateSecret) -> bool:
        """Create a Secret; one that exists by now is kept: ours from an earlier try or instance, or not ours and never taken."""
        manifest = make_secret(effect.request, snapshot.identity)
        key = key_of(manifest)
        try:
            return await self._learned(key, self._client.create(manifest))
        except Conflict:
            existing = await self._client.get("Secret", snapshot.identity.namespace, effect.request.name)
            labels = existing["metadata"].get("labels") or {}
            wanted = manifest["metadata"]["labels"]
            if labels.get(LABEL_INSTANCE) != wanted[LABEL_INSTANCE]:
                raise FieldConflict(
                    "the Secret exists and does not belong to this instance; rename or delete it", target=str(key)
                ) from None
            self._children.learn(existing)
        return True

    async def _delete(self, effect: Delete) -> bool:
        now = self._clock.monotonic()
        self._deleted = {uid: until for uid, until in self._deleted.items() if until > now}
        if effect.uid in self._deleted:
            return False
        done = await self._client.delete(effect.key, effect.uid)
        self._deleted[effect.uid] = now + DELETED_SECONDS
        return done

    async def _emit(self, snapshot: Seen, effect: Emit) -> bool:
        """Record an Event; in a terminating namespace none can be created, so the log has to do."""
        if snapshot.namespace_terminating:
            _log.warning("event.namespace_terminating", event_reason=effect.reason, message=effect.message)
            return False
        return await self._recorder.emit(snapshot.identity, effect)

    async def _set_finalizer(self, snapshot: Seen, effect: SetFinalizer) -> bool:
        """Add or remove our finalizer by JSON patch with `test`, so that a finalizer of somebody else is never touched."""
        identity = snapshot.identity
        if effect.present == (FINALIZER in identity.finalizers):
            return False
        key = ObjectKey(identity.kind, identity.namespace, identity.name)
        operations = finalizer_patch(identity.uid, identity.resource_version, identity.finalizers, present=effect.present)
        try:
            self._learn_own(await self._client.json_patch(key, operations))
        except NotFound:
            if effect.present:
                raise
        if not effect.present and snapshot.namespace_terminating:
            self._metrics.terminating_releases.inc()
            _log.warning("finalizer.released_without_cleanup", hint="the namespace is terminating; volumes go with it")
        return True


def finalizer_patch(uid: str, resource_version: str, finalizers: Sequence[str], *, present: bool) -> list[dict[str, Any]]:
    """Return the JSON patch that adds or removes our finalizer on exactly the version that was seen."""
    tests = [
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": "/metadata/resourceVersion", "value": resource_version},
    ]
    if present:
        how = (
            {"path": "/metadata/finalizers/-", "value": FINALIZER} if finalizers else {"path": "/metadata/finalizers", "value": [FINALIZER]}
        )
        return [*tests, {"op": "add", **how}]
    path = f"/metadata/finalizers/{list(finalizers).index(FINALIZER)}"
    return [*tests, {"op": "test", "path": path, "value": FINALIZER}, {"op": "remove", "path": path}]


def _whole_api(error: KubeError) -> bool:
    """Return whether an error says nothing about the object: the API server is away, or wants us to slow down."""
    return isinstance(error, Throttled) or (isinstance(error, Unavailable) and error.status is None)


def _failure(snapshot: Seen, effect: Effect, error: KubeError) -> EffectFailure:
    """Return what the next pass is told. What is refused as such stays refused until a person changes something."""
    stuck = isinstance(error, FieldConflict | ImmutableFieldChanged | Invalid)
    return EffectFailure(target_of(snapshot, effect), error.reason, str(error), stuck)


def target_of(snapshot: Seen, effect: Effect) -> ObjectKey:
    """Return the object that an effect is for."""
    identity = snapshot.identity
    match effect:
        case Apply():
            return key_of(effect.manifest)
        case CreateSecret():
            return ObjectKey("Secret", identity.namespace, effect.request.name)
        case Delete() | PatchMetadata():
            return effect.key
        case Emit() | SetFinalizer():
            return ObjectKey(identity.kind, identity.namespace, identity.name)
        case _:
            assert_never(effect)
