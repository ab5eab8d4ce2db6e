"""Events on objects of ours for `kubectl describe`: few, never repeated, never a reason for a pass to fail."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog

from chatbot_operator.clock import Clock
from chatbot_operator.constants import API_VERSION
from chatbot_operator.errors import Conflict, KubeError, LeadershipLost
from chatbot_operator.kube.client import KubeClient
from chatbot_operator.kube.kinds import EVENT
from chatbot_operator.model.effect import Emit
from chatbot_operator.model.objects import ObjectKey
from chatbot_operator.model.snapshot import Identity

REPEAT_SECONDS: Final = 3600.0
"""The API server keeps Events for an hour; the same words are said again only after that."""
BURST: Final = 25
REFILL_SECONDS: Final = 300.0
"""Events per instance: 25 at once, then one each 5 minutes, as client-go's spam filter allows."""
MAX_NOTE: Final = 1024
"""Limit of the API."""
CONTROLLER: Final = "chatbotops.io/operator"

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Budget:
    """Tokens of one instance."""

    tokens: float
    counted_at: float


class EventRecorder:
    """Creates Events of events.k8s.io/v1 with deterministic names, so that an operator that restarts repeats none either."""

    def __init__(self, client: KubeClient, clock: Clock, reporter: str) -> None:
        """Prepare.

        Args:
            client: Its guard applies: only the leader speaks.
            clock: For repeats and budgets; wall-clock time is written into the Event.
            reporter: `reportingInstance`, normally the pod's name.
        """
        self._client = client
        self._clock = clock
        self._reporter = reporter[:128]
        self._said: dict[str, float] = {}
        self._budgets: dict[str, _Budget] = {}

    async def emit(self, about: Identity, effect: Emit, *, action: str = "Reconcile") -> bool:
        """Create the Event unless it repeats or the instance's budget is spent; failures are logged, never raised.

        Returns:
            Whether a new Event was created.
        """
        now = self._clock.monotonic()
        name = event_name(about, effect)
        if self._said.get(name, -REPEAT_SECONDS) + REPEAT_SECONDS > now or not self._spend(about.uid, now):
            return False
        self._remember(name, now)
        try:
            await self._client.create(self._render(about, effect, name, action))
        except Conflict:
            return await self._count_again(about, name)
        except (KubeError, LeadershipLost) as error:
            self._said.pop(name, None)
            _log.info("event.not_recorded", namespace=about.namespace, instance=about.name, event_reason=effect.reason, reason=error.reason)
            return False
        return True

    async def _count_again(self, about: Identity, name: str) -> bool:
        """Turn an Event that exists (an earlier process made it) into a series, as the API wants repeats told."""
        key = ObjectKey(EVENT.kind, about.namespace, name)
        try:
            live = await self._client.get(EVENT.kind, about.namespace, name)
            count = int((live.get("series") or {}).get("count", 1)) + 1
            series = {"count": count, "lastObservedTime": self._clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
            await self._client.merge_patch(key, {"series": series})
        except (KubeError, LeadershipLost) as error:
            _log.debug("event.not_counted", namespace=about.namespace, instance=about.name, reason=error.reason)
        return False

    def _render(self, about: Identity, effect: Emit, name: str, action: str) -> Mapping[str, Any]:
        return {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {"name": name, "namespace": about.namespace},
            "eventTime": self._clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "type": effect.type.value,
            "reason": effect.reason[:128],
            "note": effect.message[:MAX_NOTE],
            "action": action,
            "reportingController": CONTROLLER,
            "reportingInstance": self._reporter,
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": about.kind,
                "namespace": about.namespace,
                "name": about.name,
                "uid": about.uid,
                "resourceVersion": about.resource_version,
            },
        }

    def _spend(self, uid: str, now: float) -> bool:
        if len(self._budgets) > 4096:
            self._budgets = {key: value for key, value in self._budgets.items() if value.counted_at + BURST * REFILL_SECONDS > now}
        budget = self._budgets.setdefault(uid, _Budget(BURST, now))
        budget.tokens = min(BURST, budget.tokens + (now - budget.counted_at) / REFILL_SECONDS)
        budget.counted_at = now
        if budget.tokens < 1:
            return False
        budget.tokens -= 1
        return True

    def _remember(self, name: str, now: float) -> None:
        if len(self._said) > 16384:
            self._said = {key: at for key, at in self._said.items() if at + REPEAT_SECONDS > now}
        self._said[name] = now


def event_name(about: Identity, effect: Emit) -> str:
    """Return the deterministic name of an Event: the instance's, and a hash of its uid and of what is said."""
    words = f"{about.uid}\n{effect.type.value}\n{effect.reason}\n{effect.message}"
    return f"{about.name}.{hashlib.blake2b(words.encode(), digest_size=8).hexdigest()}"
