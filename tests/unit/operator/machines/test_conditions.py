"""Pure. Conditions keep the time of the last flip, whatever else changes; the worst verdict wins."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from chatbot_operator.api.v1alpha1.common import Condition
from chatbot_operator.machines.conditions import Conditions, worst
from chatbot_operator.model.verdict import OK, stop, wait

START = datetime(2027, 1, 1, tzinfo=UTC)


@given(st.lists(st.tuples(st.sampled_from([True, False, None]), st.sampled_from(["A", "B"]), st.text(max_size=5)), min_size=1, max_size=20))
def test_the_time_moves_exactly_when_the_status_flips(story: list[tuple[bool | None, str, str]]) -> None:
    old: list[Condition] = []
    before: object = "none"
    for number, (status, reason, message) in enumerate(story):
        now = START + timedelta(minutes=number)
        made = Conditions(old, number, now)
        made.put("Ready", status, reason, message)
        condition = made.result()[0]
        flipped = condition.last_transition_time == now.strftime("%Y-%m-%dT%H:%M:%SZ")
        assert flipped is (before != status)
        assert condition.observed_generation == number
        old, before = made.result(), status


def test_a_condition_that_is_not_set_is_gone() -> None:
    first = Conditions([], 1, START)
    first.put("WorkerReady", True, "Available")
    assert Conditions(first.result(), 2, START).result() == []


def test_the_worst_verdict_is_the_one_that_needs_a_person_then_the_known_one() -> None:
    unknown, known, hopeless = wait("U", unknown=True), wait("K"), stop("S", "")
    assert worst([OK, unknown, known, hopeless]) is hopeless
    assert worst([OK, unknown, known]) is known
    assert worst([OK, unknown]) is unknown
    assert worst([OK]) is None


def test_long_messages_are_cut_to_what_the_api_takes() -> None:
    made = Conditions([], 1, START)
    made.put("Ready", False, "A", "x" * 5000)
    assert len(made.result()[0].message) == 1024
