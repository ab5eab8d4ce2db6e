"""Ids and planned times. Needs nothing."""

from datetime import UTC, datetime

from chatbot_runtime.db.ids import uuid7
from chatbot_runtime.scheduler.periodic import planned


def test_ids_sort_in_the_order_of_their_creation() -> None:
    made = [uuid7() for _ in range(5000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert {item.version for item in made} == {7}
    assert all((item.int >> 62) & 3 == 2 for item in made)


def test_a_planned_time_is_the_newest_that_has_come() -> None:
    assert planned(datetime(2026, 11, 25, 17, 59, 59, 999_999, UTC), 3600) == datetime(2026, 11, 25, 17, tzinfo=UTC)
    assert planned(datetime(2026, 11, 25, 18, tzinfo=UTC), 3600) == datetime(2026, 11, 25, 18, tzinfo=UTC)
