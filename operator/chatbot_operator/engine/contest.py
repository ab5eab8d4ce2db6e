"""Notices that somebody keeps taking our fields back, names them, and leaves the object alone for a while."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from chatbot_operator.clock import Clock
from chatbot_operator.constants import FIELD_MANAGER
from chatbot_operator.model.objects import Manifest, ObjectKey

FORCED: Final = 3
WINDOW_SECONDS: Final = 600.0
"""So many forced applies of the same content within so many seconds make an object contested (design section 4.5)."""
HOLD_SECONDS: Final = 600.0
LONGEST_HOLD_SECONDS: Final = 4800.0
"""How long a contested object is left alone at first, doubled each time it is contested again at once, and at most."""


@dataclass(slots=True)
class _Record:
    uid: str
    fingerprint: str
    forced: deque[float] = field(default_factory=lambda: deque(maxlen=FORCED))
    managers: tuple[str, ...] = ()
    held_until: float = 0.0
    hold: float = HOLD_SECONDS


class Contests:
    """Remembers what was applied to which object by this process; a new process starts with a clean slate."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._records: dict[ObjectKey, _Record] = {}

    def is_repeat(self, key: ObjectKey, uid: str, fingerprint: str) -> bool:
        """Return whether the same content was applied to the same object before: then somebody took our fields meanwhile."""
        known = self._records.get(key)
        return known is not None and known.uid == uid and known.fingerprint == fingerprint

    def applied(self, key: ObjectKey, uid: str, fingerprint: str) -> None:
        """Remember an apply. New content, or a new object, starts anew."""
        if not self.is_repeat(key, uid, fingerprint):
            self._records[key] = _Record(uid, fingerprint)

    def forced(self, key: ObjectKey, managers: tuple[str, ...]) -> None:
        """Count a repeated apply; `managers` had our fields just before it."""
        record = self._records[key]
        now = self._clock.monotonic()
        record.forced.append(now)
        record.managers = tuple(sorted({*record.managers, *managers}))
        if len(record.forced) == FORCED and now - record.forced[0] <= WINDOW_SECONDS:
            again = record.held_until > 0 and now - record.held_until <= WINDOW_SECONDS
            record.hold = min(record.hold * 2, LONGEST_HOLD_SECONDS) if again else HOLD_SECONDS
            record.held_until = now + record.hold
            record.forced.clear()

    def contested(self, keys: Iterable[ObjectKey]) -> dict[ObjectKey, tuple[str, ...]]:
        """Return those of the objects that are left alone now, with the managers that fight for them."""
        now = self._clock.monotonic()
        return {key: found.managers for key in keys if (found := self._records.get(key)) is not None and found.held_until > now}

    def next_end(self, keys: Iterable[ObjectKey]) -> float | None:
        """Return in how many seconds the first of these contests ends, or None."""
        now = self._clock.monotonic()
        ends = [found.held_until - now for key in keys if (found := self._records.get(key)) is not None and found.held_until > now]
        return min(ends, default=None)

    def forget(self, keys: Iterable[ObjectKey]) -> None:
        """Forget the objects of an instance that is gone."""
        for key in keys:
            self._records.pop(key, None)


def managers_over(live: Mapping[str, Any], manifest: Manifest) -> tuple[str, ...]:
    """Return the other managers that own, in a live object, any field which the manifest sets.

    Args:
        live: The object with `metadata.managedFields`.
        manifest: What we are about to apply.
    """
    found = set()
    for entry in live.get("metadata", {}).get("managedFields") or ():
        ours = entry.get("manager") == FIELD_MANAGER
        if not ours and entry.get("subresource") != "status" and _overlaps(entry.get("fieldsV1") or {}, manifest):
            found.add(str(entry.get("manager", "")))
    return tuple(sorted(found))


def _overlaps(fields: Mapping[str, Any], value: Any) -> bool:
    """Return whether a `fieldsV1` tree names a leaf that the value sets too."""
    below = {path: child for path, child in fields.items() if path != "."}
    if not below:
        return True
    if isinstance(value, Mapping):
        return any(path[:2] == "f:" and path[2:] in value and _overlaps(child, value[path[2:]]) for path, child in below.items())
    if isinstance(value, list | tuple):
        return any(_overlaps(child, item) for path, child in below.items() for item in value if _is_item(path, item))
    return False


def _is_item(path: str, item: Any) -> bool:
    if path[:2] == "k:":
        wanted = orjson.loads(path[2:])
        return isinstance(item, Mapping) and all(item.get(name) == expected for name, expected in wanted.items())
    return path[:2] == "v:" and bool(orjson.loads(path[2:]) == item)
