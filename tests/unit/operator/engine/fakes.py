"""Stand-ins for the engine's own interfaces, and small makers of the objects they speak of."""

import itertools
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from chatbot_operator.errors import Conflict, NotFound
from chatbot_operator.model.effect import Emit
from chatbot_operator.model.objects import Manifest, ObjectKey, key_of
from chatbot_operator.model.snapshot import SecretFacts

NAMESPACE, NAME, UID = "team", "shop", "uid-1"
START = datetime(2026, 1, 1, tzinfo=UTC)


class FakeClock:
    """A clock that only moves when told."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds - 1000.0)

    def monotonic(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


def live_instance(version: str = "1", **changes: Any) -> dict[str, Any]:
    """Return an instance as the API server sends it; `metadata`, `spec` and `status` given by keyword are merged in."""
    metadata = {"namespace": NAMESPACE, "name": NAME, "uid": UID, "resourceVersion": version, "generation": 1}
    return {
        "apiVersion": "chatbotops.io/v1alpha1",
        "kind": "ChatbotInstance",
        "metadata": {**metadata, **changes.get("metadata", {})},
        "spec": {"release": {"version": "1.0", "image": "img@sha256:" + "a" * 64}, **changes.get("spec", {})},
        "status": {"observedGeneration": -1, **changes.get("status", {})},
    }


class FakeChildren:
    """What was learned from answers, and the keys whose answer was under way at some time."""

    def __init__(self) -> None:
        self.learned: list[dict[str, Any]] = []
        self.announced: list[ObjectKey] = []

    def learn(self, live: dict[str, Any]) -> None:
        self.learned.append(live)

    @contextmanager
    def writing(self, key: ObjectKey) -> Iterator[None]:
        self.announced.append(key)
        yield


class FakeApi:
    """Objects with resourceVersions and preconditions, as far as the engine relies on them; `errors` are raised once each."""

    def __init__(self) -> None:
        self.objects: dict[ObjectKey, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.errors: dict[str, list[Exception]] = {}
        self._versions = itertools.count(100)

    def put(self, live: Mapping[str, Any]) -> None:
        self.objects[key_of(live)] = {**live, "metadata": dict(live["metadata"])}

    def _begin(self, verb: str, key: ObjectKey) -> None:
        self.requests.append(f"{verb} {key}")
        waiting = self.errors.get(f"{verb} {key.kind}")
        if waiting:
            raise waiting.pop(0)

    def _found(self, key: ObjectKey) -> dict[str, Any]:
        if key not in self.objects:
            raise NotFound("not found", status=404, target=str(key))
        return self.objects[key]

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        key = ObjectKey(kind, namespace, name)
        self._begin("get", key)
        return self._found(key)

    async def create(self, manifest: Manifest) -> dict[str, Any]:
        key = key_of(manifest)
        self._begin("create", key)
        if key in self.objects:
            raise Conflict("exists", status=409, target=str(key))
        return self._store(manifest)

    async def apply(self, manifest: Manifest, uid: str = "") -> dict[str, Any]:
        self._begin("apply", key_of(manifest))
        return self._store(manifest)

    async def merge_patch(self, key: ObjectKey, patch: Mapping[str, Any], *, uid: str = "", subresource: str = "") -> dict[str, Any]:
        self._begin("patch", key)
        live = self._found(key)
        wanted = patch.get("metadata", {}).get("resourceVersion")
        if wanted not in (None, live["metadata"]["resourceVersion"]) or uid not in ("", live["metadata"]["uid"]):
            raise Conflict("changed", status=409, target=str(key))
        status = {**live.get("status", {}), **patch.get("status", {})}
        live["status"] = {name: value for name, value in status.items() if value is not None}
        return self._touch(live)

    async def json_patch(self, key: ObjectKey, operations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        self._begin("patch", key)
        live = self._found(key)
        for operation in operations:
            tests_version = operation["op"] == "test" and operation["path"] == "/metadata/resourceVersion"
            if tests_version and operation["value"] != live["metadata"]["resourceVersion"]:
                raise Conflict("changed", status=409, target=str(key))
        return self._touch(live)

    async def delete(self, key: ObjectKey, uid: str) -> bool:
        self._begin("delete", key)
        return self.objects.pop(key, None) is not None

    def _store(self, manifest: Manifest) -> dict[str, Any]:
        key = key_of(manifest)
        uid = self.objects.get(key, {"metadata": {"uid": f"uid-of-{key.name}"}})["metadata"]["uid"]
        live = {**manifest, "metadata": {**manifest["metadata"], "uid": uid}}
        self.objects[key] = live
        return self._touch(live)

    def _touch(self, live: dict[str, Any]) -> dict[str, Any]:
        live["metadata"] = {**live["metadata"], "resourceVersion": str(next(self._versions))}
        return live


class FakeRecorder:
    def __init__(self) -> None:
        self.emitted: list[Emit] = []

    async def emit(self, about: Any, effect: Emit) -> bool:
        self.emitted.append(effect)
        return True


class FakeSecrets:
    def __init__(self) -> None:
        self.wait: float | None = None
        self.found = False
        self.error: Exception | None = None

    async def facts(
        self, namespace: str, names: Iterable[str], instance_uid: str, own: Container[str] = ()
    ) -> Mapping[str, SecretFacts | None]:
        if self.error is not None:
            raise self.error
        return {name: SecretFacts(name, {}) if self.found else None for name in names}

    def next_check(self, namespace: str, names: Iterable[str], instance_uid: str) -> float | None:
        return self.wait if list(names) else None


class FakeNamespaces:
    def __init__(self) -> None:
        self.answer: bool | None = False

    async def terminating(self, namespace: str) -> bool | None:
        return self.answer
