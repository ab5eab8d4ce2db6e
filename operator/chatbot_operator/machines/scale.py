"""How many pods each component shall have: by the spec, or down to none in order, so that nobody works on a store that is gone.

Hibernation stops worker-web, scheduler, app, redis, postgres, each once the one before has stopped; the gates resume in reverse.
"""

from collections.abc import Mapping
from typing import Final

from chatbot_operator.api.v1alpha1.instance import Lifecycle
from chatbot_operator.constants import LABEL_COMPONENT
from chatbot_operator.desired import names
from chatbot_operator.gates.readiness import is_stopped
from chatbot_operator.machines.world import World

ORDER: Final = (names.WORKER_WEB, names.SCHEDULER, names.APP, names.REDIS, names.POSTGRES)
"""In which components stop."""


def decide_replicas(world: World) -> Mapping[str, int | None]:
    """Return the wanted number of pods by component; None leaves it to the autoscaler."""
    app = world.spec.app
    running: dict[str, int | None] = dict.fromkeys(ORDER, 1)
    running[names.APP] = None if app.autoscaling else app.replicas
    if world.spec.lifecycle is not Lifecycle.HIBERNATED:
        return running
    wanted: dict[str, int | None] = {}
    for component in ORDER:
        # A Job that works on the database is never cut short.
        may_stop = all(_stopped(world, earlier) for earlier in wanted) and not (component == names.POSTGRES and world.jobs_working())
        wanted[component] = 0 if may_stop else running[component]
    return wanted


def decide_stopped(world: World) -> str:
    """Return the first component that has not stopped yet, or an empty text when hibernation is complete."""
    return next((component for component in ORDER if not _stopped(world, component)), "")


def _stopped(world: World, component: str) -> bool:
    children = [(key.kind, child) for key, child in world.snapshot.children.items() if child.labels.get(LABEL_COMPONENT) == component]
    return is_stopped(
        workloads=(child for kind, child in children if kind in ("Deployment", "StatefulSet")),
        pods=(child for kind, child in children if kind == "Pod"),
    )
