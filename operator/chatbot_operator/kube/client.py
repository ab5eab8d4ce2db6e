"""The API as the operator uses it: raw JSON objects, server-side apply, guarded mutations, paged lists, watches."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from chatbot_operator.constants import FIELD_MANAGER, LABEL_INSTANCE, LABEL_INSTANCE_UID
from chatbot_operator.errors import Conflict, FieldConflict, Invalid, NotFound
from chatbot_operator.kube.credentials import Credentials
from chatbot_operator.kube.kinds import Kind, kind_of
from chatbot_operator.kube.responses import status_error
from chatbot_operator.kube.transport import Guard, Observe, Transport
from chatbot_operator.model.objects import Manifest, ObjectKey, key_of

Live = dict[str, Any]
"""An object as the API server sent it."""

PAGE: Final = 250
"""Objects per page of a LIST: parsing one page blocks the loop for about 10 ms."""
WATCH_SECONDS: Final = 300
SILENCE_SECONDS: Final = 90.0
"""Bookmarks come about each minute, so a watch without a byte for this long is dead."""

_APPLY: Final = "application/apply-patch+yaml"
_MERGE: Final = "application/merge-patch+json"
_JSON_PATCH: Final = "application/json-patch+json"
_METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_MUST_NOT_EXIST: Final = "1"
"""A resourceVersion that no object ever has: an apply that carries it creates, and is a 409 when the object exists."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list. `resource_version` is that of the whole list: where a watch continues."""

    items: list[Live]
    resource_version: str


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One line of a watch. For BOOKMARK only the resourceVersion of `object` counts."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: Live


class KubeClient:
    """Requests to one API server. `guard` runs before every attempt of a mutation and raises LeadershipLost when nothing may be changed."""

    def __init__(self, transport: Transport, guard: Guard) -> None:
        self._transport = transport
        self._guard = guard

    @classmethod
    async def connect(cls, guard: Guard, observe: Observe) -> "KubeClient":
        """Return a client with the credentials of this process; no request is made yet.

        Args:
            guard: Called before every attempt of a mutation; raises LeadershipLost.
            observe: Called with (verb, status) of each answer; 0 means that none came.

        Raises:
            ConfigError: No usable credentials.
        """
        return cls(Transport(await Credentials.load(), observe), guard)

    def unguarded(self) -> "KubeClient":
        """Return a client on the same connections whose mutations are not guarded: only for the Lease itself."""
        return KubeClient(self._transport, lambda: None)

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

    async def get(self, kind: str, namespace: str, name: str, *, metadata_only: bool = False, seconds: float | None = None) -> Live:
        """Return one object.

        Raises:
            NotFound: It does not exist.
        """
        key = ObjectKey(kind, namespace, name)
        path = kind_of(kind).path(namespace, name)
        return _live(
            await self._transport.send("get", "GET", path, target=str(key), accept=_METADATA if metadata_only else None, seconds=seconds)
        )

    async def list_pages(
        self, kind: str, namespace: str = "", *, selector: str = "", fields: str = "", metadata_only: bool = False, limit: int = PAGE
    ) -> AsyncIterator[Page]:
        """Yield a consistent list page by page.

        Args:
            kind: Kind of the objects; items carry it even though the API server leaves it out.
            namespace: Empty for all.
            selector: Label selector.
            fields: Field selector.
            metadata_only: Ask for PartialObjectMetadata.
            limit: Objects per page.

        Raises:
            Gone: The continuation expired: start over.
        """
        known = kind_of(kind)
        params = {"limit": str(limit)}
        if selector:
            params["labelSelector"] = selector
        if fields:
            params["fieldSelector"] = fields
        while True:
            answer = await self._transport.send(
                "list",
                "GET",
                known.path(namespace),
                target=f"{kind} list",
                params=params,
                accept=_METADATA_LIST if metadata_only else None,
            )
            metadata = answer["metadata"]
            yield Page([_typed(known, item) for item in answer.get("items") or ()], metadata["resourceVersion"])
            if not metadata.get("continue"):
                return
            params = {**params, "continue": metadata["continue"]}

    async def watch(
        self,
        kind: str,
        namespace: str = "",
        *,
        resource_version: str,
        selector: str = "",
        fields: str = "",
        metadata_only: bool = False,
        seconds: int = WATCH_SECONDS,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> AsyncIterator[WatchEvent]:
        """Yield changes since a resourceVersion until the server ends the watch (after about `seconds`).

        Raises:
            Gone: The resourceVersion is too old: list again.
            Unavailable: The connection broke, or nothing at all came for `silence_seconds`.
        """
        known = kind_of(kind)
        params = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(seconds),
        }
        if selector:
            params["labelSelector"] = selector
        if fields:
            params["fieldSelector"] = fields
        target = f"{kind} watch"
        lines = self._transport.stream(
            known.path(namespace),
            target=target,
            params=params,
            accept=_METADATA if metadata_only else None,
            silence_seconds=silence_seconds,
        )
        async for line in lines:
            if line["type"] == "ERROR":
                raise status_error(line["object"], target=target)
            yield WatchEvent(line["type"], _typed(known, line["object"]))

    async def create(self, manifest: Manifest) -> Live:
        """Create an object (POST), owned by our field manager as an update, not as an apply.

        Raises:
            Conflict: The name is taken.
        """
        key = key_of(manifest)
        path = kind_of(key.kind).path(key.namespace)
        params = {"fieldManager": FIELD_MANAGER}
        return _live(
            await self._transport.send(
                "create", "POST", path, target=str(key), params=params, body=manifest, repeatable=False, guard=self._guard
            )
        )

    async def apply(self, manifest: Manifest, uid: str = "") -> Live:
        """Server-side apply one manifest and return the live object.

        With a uid our fields are forced onto exactly that object. Without one the object must not exist; if it does
        by now, it is ours only when it carries our instance's name and uid (an earlier pass that crashed, or a
        second operator, made it), and then it is returned as it is, unchanged.

        Raises:
            FieldConflict: The object exists and is somebody else's; `managers` names them.
            Conflict: The object with this uid is gone or was replaced.
            ImmutableFieldChanged: The change touches a field that can't change.
        """
        key = key_of(manifest)
        try:
            return await self._apply(key, manifest, {"uid": uid} if uid else {"resourceVersion": _MUST_NOT_EXIST})
        except FieldConflict:
            raise
        except Conflict:
            if uid:
                raise
        existing = await self.get(key.kind, key.namespace, key.name)
        if _same_instance(existing, manifest):
            return existing
        managers = _managers(existing)
        named = f" (managers: {', '.join(managers)})" if managers else ""
        raise FieldConflict(
            f"the object exists and does not belong to this instance{named}; rename or delete it", managers=managers, target=str(key)
        )

    async def merge_patch(
        self, key: ObjectKey, patch: Mapping[str, Any], *, uid: str = "", subresource: str = "", seconds: float | None = None
    ) -> Live:
        """JSON merge patch; None removes a field. A `metadata.resourceVersion` in the patch is a precondition, as is `uid`.

        Raises:
            Conflict: A precondition failed.
            NotFound: The object does not exist.
        """
        body = dict(patch)
        if uid:
            body["metadata"] = {**body.get("metadata", {}), "uid": uid}
        return await self._patch(key, body, _MERGE, subresource, seconds)

    async def json_patch(self, key: ObjectKey, operations: Sequence[Mapping[str, Any]], *, subresource: str = "") -> Live:
        """JSON patch. `test` operations are preconditions.

        Raises:
            Conflict: A `test` failed (the API server does not say which operation failed), or the object changed meanwhile.
            NotFound: The object does not exist.
        """
        try:
            return await self._patch(key, list(operations), _JSON_PATCH, subresource, None)
        except Invalid as error:
            if any(op.get("op") == "test" for op in operations) and "error in our request" in str(error):
                raise Conflict("a tested field has another value by now", status=409, target=str(key)) from None
            raise

    async def delete(self, key: ObjectKey, uid: str, *, propagation: str = "Background") -> bool:
        """Delete exactly the object with this uid; return False when it was gone already.

        Raises:
            Conflict: Another object has the name by now.
        """
        body = {"preconditions": {"uid": uid}, "propagationPolicy": propagation}
        path = kind_of(key.kind).path(key.namespace, key.name)
        try:
            await self._transport.send("delete", "DELETE", path, target=str(key), body=body, guard=self._guard)
        except NotFound:
            return False
        return True

    async def _apply(self, key: ObjectKey, manifest: Manifest, precondition: Mapping[str, str]) -> Live:
        body = {**manifest, "metadata": {**manifest["metadata"], **precondition}}
        params = {"fieldManager": FIELD_MANAGER, "force": "true"}
        path = kind_of(key.kind).path(key.namespace, key.name)
        return _live(
            await self._transport.send(
                "apply", "PATCH", path, target=str(key), params=params, body=body, content_type=_APPLY, guard=self._guard
            )
        )

    async def _patch(self, key: ObjectKey, body: Any, content_type: str, subresource: str, seconds: float | None) -> Live:
        return _live(
            await self._transport.send(
                "patch",
                "PATCH",
                kind_of(key.kind).path(key.namespace, key.name, subresource),
                target=str(key),
                params={"fieldManager": FIELD_MANAGER},
                body=body,
                content_type=content_type,
                seconds=seconds,
                guard=self._guard,
            )
        )


def _live(answer: Any) -> Live:
    return answer if isinstance(answer, dict) else {}


def _typed(kind: Kind, item: Live) -> Live:
    """Give items of lists, and metadata-only objects, the kind that was asked for."""
    item["kind"] = kind.kind
    item["apiVersion"] = kind.api_version
    return item


def _same_instance(existing: Live, manifest: Manifest) -> bool:
    """Return whether an object that exists was made for the same instance as the manifest."""
    wanted = manifest["metadata"].get("labels", {})
    found = existing.get("metadata", {}).get("labels", {})
    return all(wanted.get(label) and wanted.get(label) == found.get(label) for label in (LABEL_INSTANCE, LABEL_INSTANCE_UID))


def _managers(existing: Live) -> tuple[str, ...]:
    entries = existing.get("metadata", {}).get("managedFields") or ()
    return tuple(sorted({str(entry["manager"]) for entry in entries if entry.get("manager")}))
