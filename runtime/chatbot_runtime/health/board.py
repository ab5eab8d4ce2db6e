"""The state of each component: ok, degraded or down, since when, and why. Pure but for the time it is given."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """How well a component, or the whole, works."""

    OK = "ok"
    DEGRADED = "degraded"
    DOWN = "down"


DATABASE: Final = "database"
REDIS: Final = "redis"
QUEUE: Final = "queue"
CHANNEL: Final = "channel"
BOT: Final = "bot"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one probe found.

    Attributes:
        status: the verdict.
        message: one English sentence for anybody who asks, so without secrets and names; empty when there is nothing to say.
        reason: CamelCase word for the same, which pages translate.
        detail: the sentence for logs and who is logged in, when it may say more: which number, and a provider's own words.
    """

    status: Status
    message: str = ""
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Component:
    """A component's status and the moment it took this status."""

    name: str
    status: Status
    since: datetime
    message: str
    reason: str
    detail: str


class Board:
    """Remembers components and when their status changed."""

    def __init__(self) -> None:
        self._components: dict[str, Component] = {}

    def update(self, name: str, finding: Finding, now: datetime) -> bool:
        """Take in a finding.

        Returns:
            Whether the status changed, for one log line a transition. The first finding counts as a change.
        """
        known = self._components.get(name)
        changed = known is None or known.status is not finding.status
        since = now if known is None or changed else known.since
        self._components[name] = Component(name, finding.status, since, finding.message, finding.reason, finding.detail)
        return changed

    def components(self) -> tuple[Component, ...]:
        """Return all components in the order in which they were first seen."""
        return tuple(self._components.values())

    def get(self, name: str) -> Component | None:
        """Return one component."""
        return self._components.get(name)

    def overall(self) -> Status:
        """Judge the whole: down with the database (nothing can be kept), degraded with anything else. Nothing known yet is down."""
        database = self._components.get(DATABASE)
        if database is None or database.status is Status.DOWN:
            return Status.DOWN
        return Status.OK if all(item.status is Status.OK for item in self._components.values()) else Status.DEGRADED
