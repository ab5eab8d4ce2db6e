"""What the machines want of each component. `desired` reads these and never `spec.release`."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class ReleaseTarget:
    """One release, resolved to images."""

    version: str
    app_image: str
    scheduler_image: str
    worker_web_image: str


@dataclass(frozen=True, slots=True)
class ComponentTarget:
    """What one component shall run.

    `replicas` None leaves the number to a HorizontalPodAutoscaler. `hold` keeps the component as it is: nothing of it is made, changed or
    removed. A component of the chatbot's own image without a `release` is held too.
    """

    replicas: int | None = 1
    release: ReleaseTarget | None = None
    hold: bool = False


@dataclass(frozen=True, slots=True)
class JobTarget:
    """One Job to have: `key` (10 hex digits, what it is for) and `attempt` (from 1) make its name."""

    key: str
    attempt: int
    release: ReleaseTarget | None = None
    timeout_seconds: int = 900
    """migrate: longest migration."""
    lock_timeout_seconds: int = 10
    """migrate: longest wait of a statement for a lock."""
    expected_identifier: str = ""
    """bootstrap: system identifier that must be found on the volume; empty where a new database may be made."""


@dataclass(frozen=True, slots=True)
class Targets:
    """Targets of all components, and the Jobs that must exist now."""

    postgres: ComponentTarget
    redis: ComponentTarget
    app: ComponentTarget
    scheduler: ComponentTarget
    worker_web: ComponentTarget
    bootstrap: JobTarget | None = None
    migrate: JobTarget | None = None
    volume_hold: bool = False
    """The database's claim is neither made nor changed, because data may be lost."""
    backup_hold: bool = False
    """The claim of backups is not made yet: their key comes first, so that a claim without it means a lost one."""


_HELD: Final = ComponentTarget(hold=True)
IDLE: Final = Targets(_HELD, _HELD, _HELD, _HELD, _HELD)
"""Nothing of any component is made or changed: for what is rendered apart from a plan, such as the Jobs of a backup."""
