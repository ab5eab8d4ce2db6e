"""The table of message states, retry times and GCRA's arithmetic. Needs nothing."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot_runtime.queue.retry import CAP_S, backoff_s
from chatbot_runtime.queue.states import TRANSITIONS, Status, may_become
from chatbot_runtime.redis.limiter import FALLBACK_FACTOR, Limit, decide

NOW = datetime(2026, 11, 25, tzinfo=UTC)


def test_every_status_has_a_row() -> None:
    assert set(TRANSITIONS) == set(Status)


@pytest.mark.parametrize("status", Status)
def test_no_status_follows_itself(status: Status) -> None:
    assert not may_become(status, status)


def test_a_message_that_was_called_for_is_never_queued_without_a_reason() -> None:
    assert {status for status in Status if may_become(status, Status.QUEUED)} == {Status.SENDING, Status.UNKNOWN, Status.HELD, Status.DEAD}


@given(st.lists(st.sampled_from([Status.SENT, Status.DELIVERED, Status.READ, Status.FAILED])))
def test_statuses_in_any_order_never_go_back(events: list[Status]) -> None:
    rank = {Status.SENDING: 0, Status.FAILED: 1, Status.SENT: 1, Status.DELIVERED: 2, Status.READ: 3}
    shown = Status.SENDING
    for event in events:
        then = event if may_become(shown, event) else shown
        assert rank[then] >= rank[shown]
        shown = then
    if Status.READ in events:
        assert shown is Status.READ


@pytest.mark.parametrize(("failures", "highest"), [(0, 2.0), (1, 4.0), (5, 64.0), (8, CAP_S), (1000, CAP_S)])
def test_backoff_is_full_jitter_with_a_cap(failures: int, highest: float) -> None:
    assert backoff_s(failures, lambda _, high: high) == highest
    assert backoff_s(failures, lambda low, _: low) == 0


def test_the_providers_wish_is_honoured() -> None:
    assert backoff_s(0, lambda low, _: low, retry_after_s=90) == 90


def test_gcra_lets_a_burst_through_and_then_one_a_step() -> None:
    limit = Limit("number", "k", step_s=1.0, burst=3)
    known, now, taken = {"k": NOW - timedelta(days=1)}, NOW, 0
    for _ in range(10):
        fresh, wait = decide([limit], known, now)
        if wait is not None:
            break
        known, taken = fresh, taken + 1
    assert taken == 3
    assert wait is not None
    assert wait.seconds == pytest.approx(FALLBACK_FACTOR)
    _, wait = decide([limit], known, now + timedelta(seconds=FALLBACK_FACTOR))
    assert wait is None


def test_the_longest_wait_of_several_limits_counts() -> None:
    fast, slow = Limit("number", "a", 0.1, 1), Limit("pair", "b", 6.0, 1)
    known = {"a": NOW, "b": NOW + timedelta(seconds=12)}
    _, wait = decide([fast, slow], known, NOW)
    assert wait is not None
    assert (wait.limit, wait.seconds) == (slow, 12.0)
