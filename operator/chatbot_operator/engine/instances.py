"""How the engine deals with ChatbotInstances: what it asks of them without parsing them, and how their passes speak of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from chatbot_operator.api.v1alpha1.instance import Lifecycle
from chatbot_operator.constants import ANNOTATION_APPLY_UPDATE, ANNOTATION_RECONCILE_AT
from chatbot_operator.engine.passes import KindOfPass
from chatbot_operator.engine.store import NamespacedName, ObjectStore, Summary, Tracked

INSTANCE_PASSES: Final = KindOfPass("ChatbotInstance", headline="Ready", what="instance")


@dataclass(frozen=True, slots=True)
class InstanceMarks:
    """What the rolling update of pod templates goes by (`engine.restarts`)."""

    update_requested: str
    """Operator version whose pod templates a person asked for."""
    update_applied: str
    """Operator version whose pod templates are applied."""
    ready: bool
    lifecycle: str
    """As the spec says; empty while it is being deleted. Only a Running one is restarted by new pod templates and ready again after."""


Instance = Tracked[InstanceMarks]


class InstanceStore(ObjectStore[InstanceMarks]):
    """The instances; one that is Ready at its generation, and of which nobody asked anything, is settled."""

    def __init__(self, on_change: Callable[[NamespacedName], None] = lambda _: None) -> None:
        """Prepare an empty store. `on_change` is called for whatever was taken in or out, our own writes included."""
        super().__init__(summarize)
        self._on_change = on_change

    def changed(self, key: NamespacedName, old: Instance | None, new: Instance | None) -> None:
        """Tell those that go by instances, if something changed."""
        if old is None or new is None or old.digest != new.digest:
            self._on_change(key)


def summarize(metadata: Mapping[str, Any], spec: Mapping[str, Any], status: Mapping[str, Any]) -> Summary[InstanceMarks]:
    """Return what is known of one version."""
    requests, alive = metadata["annotations"], metadata["deletionTimestamp"] is None
    ready = _is_ready(status, metadata["generation"])
    handled = requests.get(ANNOTATION_RECONCILE_AT) in (None, status.get("lastHandledReconcileAt"))
    marks = InstanceMarks(
        update_requested=requests.get(ANNOTATION_APPLY_UPDATE, ""),
        update_applied=status.get("operatorVersion") or "",
        ready=ready,
        lifecycle=spec.get("lifecycle", Lifecycle.RUNNING) if alive else "",
    )
    return Summary(ready and handled and alive, marks)


def _is_ready(status: Mapping[str, Any], generation: int) -> bool:
    if status.get("observedGeneration") != generation:
        return False
    return any(item.get("type") == "Ready" and item.get("status") == "True" for item in status.get("conditions") or ())
