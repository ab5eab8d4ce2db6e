"""What each error of the Cloud API means for a message and for the channel. Pure: the table of classes, and nothing else.

Codes are those of the provider's documentation. A code that is not listed is treated by its HTTP status.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Fault(StrEnum):
    """What to do about an error.

    RETRY      try again with back-off, a limited number of times
    THROTTLE   the number sends too fast: everybody waits; not the message's fault
    PAIR       this recipient gets too many: only its chat waits
    LATER      the provider holds back marketing for this recipient: hours, no quick retry
    RECIPIENT  this recipient can't get it: failed
    TEMPLATE   needs a template, or the template is wrong: failed
    REQUEST    our request is wrong: failed
    STOP       the account or token is refused: the channel pauses and somebody must look
    """

    RETRY = "retry"
    THROTTLE = "throttle"
    PAIR = "pair"
    LATER = "later"
    RECIPIENT = "recipient"
    TEMPLATE = "template"
    REQUEST = "request"
    STOP = "stop"


PERMANENT: Final = frozenset({Fault.RECIPIENT, Fault.TEMPLATE, Fault.REQUEST})
"""Faults that no retry cures; the message is failed and its lane moves on."""


def _table(rows: Mapping[Fault, tuple[int, ...]]) -> Mapping[int, Fault]:
    return {code: fault for fault, codes in rows.items() for code in codes}


CODES: Final = _table(
    {
        Fault.RETRY: (1, 2, 131000, 131016, 131057),
        Fault.THROTTLE: (4, 80007, 130429),
        Fault.PAIR: (131056,),
        Fault.LATER: (131049,),
        Fault.RECIPIENT: (131021, 131026, 131030, 131050, 130472),
        Fault.TEMPLATE: (131047, *range(132000, 132017)),
        Fault.REQUEST: (100, 131008, 131009, 131051),
        Fault.STOP: (0, 3, 10, 190, *range(200, 300), 368, 131005, 131031, 131042, 131045, 131048, 131064),
    }
)


@dataclass(frozen=True, slots=True)
class GraphError:
    """An error that the provider gave: its code, a sentence, and whether its subject is the message or the channel."""

    fault: Fault
    code: int
    text: str


def classify(code: int, http_status: int, text: str) -> GraphError:
    """Say what an error means."""
    fault = CODES.get(code)
    if fault is None:
        fault = _by_status(http_status)
    return GraphError(fault, code, text)


def _by_status(status: int) -> Fault:
    if status == 429:
        return Fault.THROTTLE
    if status in (401, 403):
        return Fault.STOP
    return Fault.REQUEST if 400 <= status < 500 else Fault.RETRY
