"""Pure. Waiting times grow, are bounded, differ between instances, and survive being stored."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from chatbot_operator.machines.backoff import FIRST_SECONDS, LONGEST_SECONDS, STUCK_SECONDS, decide_delay, format_time, parse_time


@given(uid=st.text(max_size=40), attempt=st.integers(1, 10_000))
def test_delays_are_bounded_and_repeatable(uid: str, attempt: int) -> None:
    delay = decide_delay(uid, attempt)
    assert FIRST_SECONDS <= delay <= LONGEST_SECONDS * 1.25
    assert delay == decide_delay(uid, attempt)
    assert STUCK_SECONDS <= decide_delay(uid, attempt, stuck=True) <= STUCK_SECONDS * 1.25


def test_delays_grow_and_are_spread() -> None:
    assert [decide_delay("u", n + 1) > decide_delay("u", n) for n in range(1, 7)] == [True] * 6
    assert len({decide_delay(f"uid-{n}", 1) for n in range(100)}) == 100


@given(st.datetimes(timezones=st.just(UTC), min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1)))  # noqa: DTZ001  hypothesis adds the zone
def test_a_stored_time_is_never_early(moment: datetime) -> None:
    stored = parse_time(format_time(moment))
    assert stored is not None
    assert timedelta() <= stored - moment < timedelta(seconds=1)


def test_other_zones_and_rubbish() -> None:
    assert format_time(datetime(2027, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))) == "2027-01-01T00:00:00Z"
    assert parse_time(None) is None
    assert parse_time("soon") is None
    assert parse_time("2027-01-01T00:00:00") == datetime(2027, 1, 1, tzinfo=UTC)
