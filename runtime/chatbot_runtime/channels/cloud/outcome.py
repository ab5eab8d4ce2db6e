"""What an answer of the provider makes of a message. Pure but for the jitter it is given."""

from collections.abc import Callable
from typing import Final

from chatbot_runtime.channels.cloud.client import Accepted, Answer, NotSent, Rejected, Unknown
from chatbot_runtime.channels.cloud.errors import PERMANENT, Fault
from chatbot_runtime.queue.retry import backoff_s
from chatbot_runtime.queue.settle import Outcome
from chatbot_runtime.queue.states import Status

LATER_S: Final = 6 * 3600.0


def outcome_of(
    answer: Answer, *, attempts: int, strikes: int, max_strikes: int, unknown_wait_s: float, uniform: Callable[[float, float], float]
) -> Outcome:
    """Decide.

    Args:
        answer: what the client found out.
        attempts: calls before this one, for the back-off while the provider can't be reached.
        strikes: retryable faults before this one.
        max_strikes: with this many the message is dead.
        unknown_wait_s: how long to wait for a status of an unknown send.
        uniform: `random.uniform`.
    """
    match answer:
        case Accepted(provider_id):
            return Outcome(Status.SENT, provider_id=provider_id)
        case Unknown(why):
            return Outcome(Status.UNKNOWN, why, delay_s=unknown_wait_s)
        case NotSent(why, retry_after):
            return Outcome(Status.QUEUED, why, delay_s=backoff_s(attempts, uniform, retry_after))
        case Rejected(error, retry_after):
            text = f"{error.text} ({error.code})"
            if error.fault in PERMANENT:
                return Outcome(Status.FAILED, text, error.code)
            if error.fault is Fault.LATER:
                return Outcome(Status.QUEUED, text, error.code, delay_s=LATER_S)
            if error.fault is not Fault.RETRY:
                return Outcome(Status.QUEUED, text, error.code, delay_s=backoff_s(attempts, uniform, retry_after))
            if strikes + 1 >= max_strikes:
                return Outcome(Status.DEAD, f"given up after {max_strikes} tries: {text}", error.code)
            return Outcome(Status.QUEUED, text, error.code, delay_s=backoff_s(strikes, uniform, retry_after), strike=True)
