"""Turns what was observed into verdicts. Pure; the thresholds are those of the runbook, section 5, where it has one."""

from typing import Final

from chatbot_runtime.health.board import Finding, Status
from chatbot_runtime.queue.stats import QueueStats

QUEUE_DEPTH_LIMIT: Final = 1000
"""Messages waiting to be sent (runbook, section 5)."""
QUEUE_AGE_LIMIT_S: Final = 300
INBOX_AGE_LIMIT_S: Final = 60
"""An inbound message that the bot has not taken up for so long means that the bot does not work, whatever its process says."""

UNPAIRED: Final = "The number is not paired with a phone."
"""Pause reason that a worker-web writes; nothing can be sent before somebody pairs the number."""


def judge_queue(stats: QueueStats) -> Finding:
    """Judge the outgoing queue by its depth and its oldest message."""
    waiting, age = stats.waiting(), stats.oldest_age_s()
    if waiting > QUEUE_DEPTH_LIMIT:
        return Finding(Status.DEGRADED, f"{waiting} messages are waiting, more than {QUEUE_DEPTH_LIMIT}", "QueueDeep")
    if age > QUEUE_AGE_LIMIT_S:
        return Finding(Status.DEGRADED, f"a message has been waiting for {age:.0f} s, more than {QUEUE_AGE_LIMIT_S} s", "QueueOld")
    return Finding(Status.OK)


def judge_channel(stats: QueueStats) -> Finding:
    """Judge whether all channels may send."""
    for pause in stats.pauses:
        if pause.reason == UNPAIRED:
            detail = f"{pause.channel} is not paired with a phone"
            return Finding(Status.DEGRADED, "a number is not paired with a phone", "WebUnpaired", detail)
    if stats.pauses:
        pause = stats.pauses[0]
        return Finding(Status.DEGRADED, "a channel is paused", "ChannelPaused", f"{pause.channel} is paused: {pause.reason}")
    return Finding(Status.OK)


def judge_bot(stats: QueueStats) -> Finding:
    """Judge the bot by its effect: messages of contacts do not wait."""
    age = (stats.at - stats.inbox_oldest_at).total_seconds() if stats.inbox_oldest_at else 0.0
    if age > INBOX_AGE_LIMIT_S:
        text = f"{stats.inbox} received messages have not been taken up, the oldest for {age:.0f} s"
        return Finding(Status.DEGRADED, text, "InboxOld")
    return Finding(Status.OK)
