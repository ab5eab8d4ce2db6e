"""Slots for restarts that only a newer operator causes: at most so many instances at a time take its pod templates."""

from chatbot_operator.api.v1alpha1.instance import Lifecycle
from chatbot_operator.engine.instances import Instance, InstanceStore
from chatbot_operator.engine.store import NamespacedName


class RestartSlots:
    """Counts from what instances say, so that a new leader counts the same. Only a request not yet applied is remembered here."""

    def __init__(self, store: InstanceStore, version: str, limit: int) -> None:
        """Prepare.

        Args:
            store: The instances.
            version: Of this operator; requests for another version take no slot.
            limit: Instances that may restart at the same time.
        """
        self._store = store
        self._version = version
        self._limit = limit
        self._granted: dict[NamespacedName, str] = {}
        """Instances that were told they may, with their uid, until their status shows it or they stop asking."""
        self._waiting: dict[NamespacedName, None] = {}

    def left(self, key: NamespacedName) -> int:
        """Return how many more instances may restart now, as the pass of this instance sees it; asking takes a slot."""
        instance = self._store.get(key)
        if instance is None or not self._asks(instance):
            self._waiting.pop(key, None)
            return 0
        if instance.marks.lifecycle != Lifecycle.RUNNING:  # nothing restarts: templates without pods are taken at once
            self._waiting.pop(key, None)
            return 1 if instance.marks.lifecycle == Lifecycle.HIBERNATED else 0
        holders = self._holders()
        if key in holders:
            return 1
        free = max(0, self._limit - len(holders))
        if free:
            self._granted[key] = instance.uid
            self._waiting.pop(key, None)
        else:
            self._waiting[key] = None
        return free

    def others(self, key: NamespacedName) -> tuple[str, ...]:
        """Return for whom an instance waits after `left`, for people: one that does not get ready keeps its slot."""
        return tuple(sorted(str(holder) for holder in self._holders())) if key in self._waiting else ()

    def next_waiting(self) -> NamespacedName | None:
        """Return the instance to wake because a slot is free, or None. Called after a pass, when a slot may have become free."""
        if not self._waiting or len(self._holders()) >= self._limit:
            return None
        key = next(iter(self._waiting))
        del self._waiting[key]
        return key

    def _asks(self, instance: Instance) -> bool:
        return instance.marks.update_requested == self._version and instance.marks.update_applied != self._version

    def _restarting(self, instance: Instance) -> bool:
        """Return whether new templates were applied on request and their pods are not all ready yet."""
        applied = instance.marks.update_requested == self._version == instance.marks.update_applied
        return applied and instance.marks.lifecycle == Lifecycle.RUNNING and not instance.marks.ready

    def _holders(self) -> set[NamespacedName]:
        for key, uid in list(self._granted.items()):
            instance = self._store.get(key)
            if instance is None or instance.uid != uid or instance.marks.lifecycle != Lifecycle.RUNNING or not self._asks(instance):
                del self._granted[key]
        restarting = {key for key in self._store if (found := self._store.get(key)) is not None and self._restarting(found)}
        return restarting | self._granted.keys()
