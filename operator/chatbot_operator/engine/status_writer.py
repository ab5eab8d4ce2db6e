"""Writes the status of an object of ours: at most once a pass, only what differs, and only onto the version that was decided on."""

from collections.abc import Mapping
from typing import Any, Protocol, get_args

from pydantic import BaseModel

from chatbot_operator.api.v1alpha1.common import StatusModel
from chatbot_operator.model.objects import ObjectKey

MAX_MESSAGE = 1024
"""Characters of a condition's message."""


class Patches(Protocol):
    """What of the API client is needed here."""

    async def merge_patch(self, key: ObjectKey, patch: Mapping[str, Any], *, uid: str = "", subresource: str = "") -> dict[str, Any]:
        """JSON merge patch with `metadata.resourceVersion` and `uid` as preconditions."""


async def write_status(
    client: Patches, key: ObjectKey, *, uid: str, resource_version: str, patch: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Write what differs of a status and return the live object, or None when nothing had to be written.

    Args:
        client: For the patch.
        key: The object.
        uid: Of the object that was decided on.
        resource_version: Of the version that was decided on.
        patch: Merge patch of the status.

    Raises:
        Conflict: The object changed since; get it and decide again.
        NotFound: The object is gone.
    """
    if not patch:
        return None
    body = {"metadata": {"resourceVersion": resource_version}, "status": patch}
    return await client.merge_patch(key, body, uid=uid, subresource="status")


def unknown_patch(
    current: Mapping[str, Any], generation: int, reason: str, message: str, now: str, headline: str = "Ready"
) -> dict[str, Any]:
    """Return the merge patch that makes one condition Unknown and touches nothing else, so that it works on a status that can't be read.

    Args:
        current: The status as the API sent it.
        generation: Of the spec.
        reason: CamelCase.
        message: For people; must hold no secret.
        now: RFC 3339 time, for a condition that changes.
        headline: Type of the condition that people look at first.
    """
    listed = current.get("conditions")
    conditions = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    old = next((item for item in conditions if item.get("type") == headline), {})
    unknown = {
        "type": headline,
        "status": "Unknown",
        "reason": reason,
        "message": message[:MAX_MESSAGE],
        "observedGeneration": generation,
        "lastTransitionTime": old.get("lastTransitionTime", now) if old.get("status") == "Unknown" else now,
    }
    return {} if unknown == old else {"conditions": [unknown, *(item for item in conditions if item.get("type") != headline)]}


def status_patch(current: Mapping[str, Any], wanted: StatusModel) -> dict[str, Any]:
    """Return the merge patch (RFC 7386) that turns one status into another; empty when they are equal.

    A known field that is no longer set is removed; a field that this version does not know is kept, because a newer operator wrote it.
    Lists are replaced as a whole.
    """
    return _patch(current, wanted.to_api(), type(wanted))


def _patch(current: Mapping[str, Any], wanted: Mapping[str, Any], model: type[BaseModel] | None) -> dict[str, Any]:
    patch: dict[str, Any] = {}
    for name, value in wanted.items():
        old = current.get(name)
        if isinstance(value, dict) and isinstance(old, dict):
            below = _patch(old, value, _model_of(model, name))
            if below:
                patch[name] = below
        elif name not in current or old != value:
            patch[name] = value
    known = {field.alias or own for own, field in model.model_fields.items()} if model is not None else set()
    gone = (name for name in current if name in known and name not in wanted)
    return patch | dict.fromkeys(gone)


def _model_of(model: type[BaseModel] | None, alias: str) -> type[BaseModel] | None:
    """Return the model of a field, or None when it is not one."""
    if model is None:
        return None
    for own, field in model.model_fields.items():
        if (field.alias or own) == alias:
            options = (field.annotation, *get_args(field.annotation))
            return next((kind for kind in options if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
    return None
