"""What kopf tells of our own kinds: every event is stored, and those that matter wake the engine. Nothing is ever written by kopf."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import kopf

from chatbot_operator.constants import GROUP, VERSION
from chatbot_operator.engine.queue import Priority, WorkQueue
from chatbot_operator.engine.store import NamespacedName, ObjectStore, name_of


@dataclass(frozen=True, slots=True)
class Inbox:
    """Where the events of one kind go."""

    plural: str
    store: ObjectStore[Any]
    queue: WorkQueue[NamespacedName]
    heard: Callable[[], None]
    """Called for each event: the watch is not deaf."""
    gone: Callable[[NamespacedName], None]
    """Called for an object that was deleted."""

    def deliver(self, event_type: str | None, live: Mapping[str, Any]) -> None:
        """Take in one event. `event_type` is None for objects of a list."""
        if event_type is not None:
            self.heard()
        key = name_of(live)
        if event_type == "DELETED":
            if self.store.remove(key, live["metadata"]["uid"]):
                self.gone(key)
        elif self.store.put(live):
            self.queue.add(key, self._priority(event_type, key))

    def _priority(self, event_type: str | None, key: NamespacedName) -> Priority:
        """Objects that were fine when the process started can wait for those that somebody waits for."""
        found = self.store.get(key)
        return Priority.LOW if event_type is None and found is not None and found.settled else Priority.HIGH


def register(registry: kopf.OperatorRegistry, inbox: Inbox) -> None:
    """Register the only handler of a kind: `on.event`, which keeps no state of kopf's and can't block a deletion."""

    @kopf.on.event(GROUP, VERSION, inbox.plural, registry=registry, id=inbox.plural)
    async def on_event(event: Any, **_: Any) -> None:
        inbox.deliver(event["type"], event["object"])
