"""The result of one pass before anything is done: the status to persist, the effects that follow, when to look again."""

from dataclasses import dataclass

from chatbot_operator.api.v1alpha1.common import StatusModel
from chatbot_operator.model.effect import Effect
from chatbot_operator.model.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Decision:
    """What a pass decided. The status is written first (only if it differs), then the effects run in order."""

    status: StatusModel
    effects: tuple[Effect, ...] = ()
    outcome: Outcome = Outcome()
