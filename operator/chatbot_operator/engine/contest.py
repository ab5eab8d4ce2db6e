"""Notices that somebody keeps taking our fields back, names them, and leaves the object alone for a while."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from chatbot_operator.clock import Clock
from chatbot_operator.constants import FIELD_MANAGER
from chatbot_operator.model.objects import Manifest, ObjectKey
from chatbot_operator.model.snapshot import Contest

FORCED: Final = 3
WINDOW_SECONDS: Final = 600.0
"""So often forced back within so many seconds, a field is contested."""
HOLD_SECONDS: Final = 600.0
LONGEST_HOLD_SECONDS: Final = 4800.0
"""How long a contested object is left alone at first, doubled each time it is contested again at once, and at most."""


@dataclass(slots=True)
class _Record:
    """One object that was forced back. Most never are, so what was applied to those costs a hash each, and no record."""

    fingerprint: str
    forced: dict[str, deque[float]] = field(default_factory=dict)
    managers: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    held_until: float = 0.0
    hold: float = HOLD_SECONDS


class Contests:
    """Remembers what was applied to which object by this process; a new process starts with a clean slate."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._applied: dict[ObjectKey, int] = {}
        """Key -> hash of (uid, fingerprint)."""
        self._records: dict[ObjectKey, _Record] = {}

    def is_repeat(self, key: ObjectKey, uid: str, fingerprint: str) -> bool:
        """Return whether the same content was applied to the same object before: then somebody took our fields meanwhile."""
        return self._applied.get(key) == hash((uid, fingerprint))

    def applied(self, key: ObjectKey, uid: str, fingerprint: str) -> None:
        """Remember an apply. New content, or a new object, starts anew."""
        if not self.is_repeat(key, uid, fingerprint):
            self._applied[key] = hash((uid, fingerprint))
            self._records.pop(key, None)

    def forced(self, key: ObjectKey, fingerprint: str, lost: Mapping[str, tuple[str, ...]]) -> None:
        """Count a repeated apply; `lost` has the fields that were taken from us just before it, and by whom (`lost_fields`)."""
        record = self._records.setdefault(key, _Record(fingerprint))
        now = self._clock.monotonic()
        record.managers = tuple(sorted({*record.managers, *(name for names in lost.values() for name in names)}))
        for path in lost:
            record.forced.setdefault(path, deque(maxlen=FORCED)).append(now)
        contested = [path for path, times in record.forced.items() if len(times) == FORCED and now - times[0] <= WINDOW_SECONDS]
        if contested:
            again = record.held_until > 0 and now - record.held_until <= WINDOW_SECONDS
            record.hold = min(record.hold * 2, LONGEST_HOLD_SECONDS) if again else HOLD_SECONDS
            record.held_until = now + record.hold
            record.fields = tuple(path for path in contested if path)
            record.forced.clear()

    def contested(self, keys: Iterable[ObjectKey]) -> dict[ObjectKey, Contest]:
        """Return those of the objects that are left alone now."""
        now = self._clock.monotonic()
        return {
            key: Contest(found.fingerprint, found.managers, found.fields)
            for key in keys
            if (found := self._records.get(key)) is not None and found.held_until > now
        }

    def next_end(self, keys: Iterable[ObjectKey]) -> float | None:
        """Return in how many seconds the first of these contests ends, or None."""
        now = self._clock.monotonic()
        ends = [found.held_until - now for key in keys if (found := self._records.get(key)) is not None and found.held_until > now]
        return min(ends, default=None)

    def forget(self, key: ObjectKey) -> None:
        """Forget an object that is gone: one of the same name starts anew."""
        self._applied.pop(key, None)
        self._records.pop(key, None)


def lost_fields(live: Mapping[str, Any], manifest: Manifest) -> dict[str, tuple[str, ...]]:
    """Return the fields that the manifest sets, we no longer own and others do: path -> their names.

    A field that somebody removed has no owner: it shows as the path "" without a name, and so does a loss that can't be explained.

    Args:
        live: The object with `metadata.managedFields`.
        manifest: What we are about to apply.
    """
    ours: set[str] = set()
    theirs: dict[str, set[str]] = {}
    for entry in live.get("metadata", {}).get("managedFields") or ():
        if entry.get("subresource") == "status":
            continue
        paths = _leaves(entry.get("fieldsV1") or {}, manifest, "")
        if entry.get("manager") == FIELD_MANAGER:
            ours.update(paths)
            continue
        for path in paths:
            theirs.setdefault(path, set()).add(str(entry.get("manager", "")))
    lost = {path: tuple(sorted(names)) for path, names in sorted(theirs.items()) if path not in ours}
    return lost or {"": ()}


def _leaves(fields: Mapping[str, Any], value: Any, at: str) -> Iterator[str]:
    """Yield the paths of a `fieldsV1` tree's leaves that the value sets too, such as `spec.template.spec.containers[app].image`."""
    below = {path: child for path, child in fields.items() if path != "."}
    if not below:
        yield at
    elif isinstance(value, Mapping):
        for path, child in below.items():
            if path[:2] == "f:" and path[2:] in value:
                yield from _leaves(child, value[path[2:]], f"{at}.{path[2:]}".lstrip("."))
    elif isinstance(value, list | tuple):
        for path, child in below.items():
            for item in value:
                if _is_item(path, item):
                    yield from _leaves(child, item, f"{at}[{_name_of(path)}]")


def _is_item(path: str, item: Any) -> bool:
    if path[:2] == "k:":
        wanted = orjson.loads(path[2:])
        return isinstance(item, Mapping) and all(item.get(name) == expected for name, expected in wanted.items())
    return path[:2] == "v:" and bool(orjson.loads(path[2:]) == item)


def _name_of(path: str) -> str:
    known = orjson.loads(path[2:])
    return ",".join(str(part) for part in known.values()) if isinstance(known, dict) else str(known)
