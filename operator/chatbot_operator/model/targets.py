"""What the machines want of each component. `desired` reads these and never `spec.release`."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ReleaseTarget:
    """One release, resolved to images."""

    version: str
    app_image: str
    scheduler_image: str
    worker_web_image: str


@dataclass(frozen=True, slots=True)
class ComponentTarget:
    """What one component shall run. `replicas` None leaves the number to a HorizontalPodAutoscaler.

    `hold` keeps the component from being created or changed; `hold_reason` says why.
    """

    release: ReleaseTarget | None
    replicas: int | None
    hold: bool = False
    hold_reason: str = ""


@dataclass(frozen=True, slots=True)
class Targets:
    """Targets of all components, and whether the migration Job of the release must have run."""

    postgres: ComponentTarget
    redis: ComponentTarget
    migrate: ComponentTarget
    app: ComponentTarget
    scheduler: ComponentTarget
    worker_web: ComponentTarget
    pod_template_version: str = ""
    """Operator version whose pod templates are applied; another than the running one is PendingOperatorUpdate."""
    notes: tuple[str, ...] = field(default=())
