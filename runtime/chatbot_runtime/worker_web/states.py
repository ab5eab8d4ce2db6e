"""States of a WhatsApp Web session as far as this release can reach them, and the rule that picks one. Pure.

There is no browser driver yet, so no number can become paired: a worker says `unpaired` and nothing better, whatever its profile holds.
"""

from enum import StrEnum


class SessionState(StrEnum):
    """What can be said about the session; each has a sentence for people in `MESSAGES`."""

    STANDBY = "standby"
    PROFILE_UNUSABLE = "profile_unusable"
    UNPAIRED = "unpaired"


MESSAGES = {
    SessionState.STANDBY: "This process does not hold the number's lease: another worker has it, or the database can't be reached.",
    SessionState.PROFILE_UNUSABLE: "The profile directory can't be written; check the volume and its owner.",
    SessionState.UNPAIRED: "Unpaired: the number is not linked to a phone, and this release has no browser driver to link it.",
}


def decide_state(*, lease_held: bool, profile_usable: bool) -> SessionState:
    """Pick the state.

    Args:
        lease_held: whether this process is the only one that may touch the profile.
        profile_usable: whether the profile directory exists and can be written.
    """
    if not lease_held:
        return SessionState.STANDBY
    return SessionState.UNPAIRED if profile_usable else SessionState.PROFILE_UNUSABLE
