"""Tells whether a live object still holds what we rendered: a hash over exactly the fields that we own.

A rendered manifest and a live object projected onto our `managedFields` entry give the same hash while nobody changed
our fields. Fields of others, defaults that we never sent and server-made fields are invisible, so they are no drift.
Format of `fieldsV1`: structured-merge-diff v6, `fieldpath/serialize.go`: `f:<field>`, `k:<key fields>` of an item of an
associative list, `v:<value>` of an item of a set, `i:<index>`, and `.` for the thing itself.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from chatbot_operator.constants import FIELD_MANAGER
from chatbot_operator.model.objects import Manifest

_OWNED_METADATA: Final = ("labels", "annotations", "ownerReferences", "finalizers")
_OPAQUE: Final = {"Secret": ("data", "stringData", "type", "immutable")}
"""What never enters a fingerprint: metadata-only watches don't carry it, and the content has keyed hashes of its own."""


def fingerprint(manifest: Manifest) -> str:
    """Return the fingerprint of a rendered manifest or of a projection: 32 hex digits, or "" when nothing is owned.

    Identity (`apiVersion`, `kind`, name, namespace, uid, resourceVersion) and `status` don't count. Order of list items
    counts. The manifest must be canonical, as the API server would store it (`500m`, not 0.5).
    """
    owned = {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind", "metadata", "status")}
    for key in _OPAQUE.get(manifest.get("kind", ""), ()):
        owned.pop(key, None)
    metadata = manifest.get("metadata", {})
    kept = {key: metadata[key] for key in _OWNED_METADATA if metadata.get(key)}
    if kept:
        owned["metadata"] = kept
    return _digest(owned) if owned else ""


def template_fingerprint(manifest: Manifest) -> str:
    """Return the fingerprint of the pod template alone, or "" for kinds without one: whether applying restarts pods."""
    template = manifest.get("spec", {}).get("template")
    return _digest(template) if isinstance(template, Mapping) else ""


def project_owned(live: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a live object that our own server-side apply owns, with its `kind`.

    Args:
        live: The object as the API server sent it, with `metadata.managedFields`.
    """
    kind = live.get("kind", "")
    entry = _own_entry(live)
    owned = _project(live, entry) if entry is not None else None
    return {"kind": kind, **(owned if isinstance(owned, dict) else {})}


def other_managers(live: Mapping[str, Any], path: Sequence[str]) -> tuple[str, ...]:
    """Return the names of managers other than ours that own a field.

    Args:
        live: The object with `metadata.managedFields`.
        path: Field names from the root, for example `("spec", "replicas")`.
    """
    found = set()
    for entry in _entries(live):
        if _is_ours(entry):
            continue
        fields: Any = entry.get("fieldsV1")
        for name in path:
            fields = fields.get(f"f:{name}") if isinstance(fields, dict) else None
        if fields is not None:
            found.add(str(entry.get("manager", "")))
    return tuple(sorted(found))


def _digest(value: Any) -> str:
    return hashlib.blake2b(orjson.dumps(value, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


def _entries(live: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    fields = live.get("metadata", {}).get("managedFields")
    return fields if isinstance(fields, list) else []


def _is_ours(entry: Mapping[str, Any]) -> bool:
    return entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply" and not entry.get("subresource")


def _own_entry(live: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for entry in _entries(live):
        if _is_ours(entry):
            fields = entry.get("fieldsV1")
            return fields if isinstance(fields, dict) else None
    return None


_ABSENT: Final = object()


def _project(value: Any, fields: Mapping[str, Any]) -> Any:
    """Return the owned part of a value, or `_ABSENT`.

    No children means that the value is owned as a whole: a scalar, or an atomic list or map.
    """
    children = [path for path in fields if path != "."]
    if not children:
        return value
    if isinstance(value, dict):
        return _project_map(value, fields, children)
    if isinstance(value, list):
        return _project_list(value, fields, children)
    return _ABSENT


def _project_map(value: Mapping[str, Any], fields: Mapping[str, Any], children: list[str]) -> Any:
    owned = {}
    for path in children:
        name = path[2:]
        if path.startswith("f:") and name in value:
            part = _project(value[name], fields[path])
            if part is not _ABSENT:
                owned[name] = part
    return owned if owned or "." in fields else _ABSENT


def _project_list(value: list[Any], fields: Mapping[str, Any], children: list[str]) -> Any:
    """Return the owned items in their live order."""
    selectors = [(path[0], orjson.loads(path[2:]), fields[path]) for path in children]
    owned = []
    for index, item in enumerate(value):
        for how, what, below in selectors:
            if _selects(how, what, index, item):
                part = _project(item, below)
                if part is not _ABSENT:
                    owned.append(part)
                break
    return owned if owned or "." in fields else _ABSENT


def _selects(how: str, what: Any, index: int, item: Any) -> bool:
    if how == "k":
        return isinstance(item, dict) and all(item.get(key) == wanted for key, wanted in what.items())
    return bool(item == what) if how == "v" else bool(index == what)
