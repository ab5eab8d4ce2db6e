"""What an answer of the Cloud API means: the table of error classes, and that doubt is never taken for "not sent". Needs nothing."""

import json

import pytest

from chatbot_runtime.channels.cloud.client import Accepted, Answer, NotSent, Rejected, Unknown, read_answer
from chatbot_runtime.channels.cloud.errors import CODES, Fault, classify
from chatbot_runtime.channels.cloud.outcome import LATER_S, outcome_of
from chatbot_runtime.queue.settle import Outcome
from chatbot_runtime.queue.states import Status


def error(code: int, details: str = "why") -> bytes:
    return json.dumps({"error": {"code": code, "message": "m", "error_data": {"details": details}}}).encode()


@pytest.mark.parametrize(
    ("status", "raw", "answer"),
    [
        (200, b'{"messages": [{"id": "wamid.1"}]}', Accepted("wamid.1")),
        (200, b'{"messages": []}', Unknown("status 200 without a message id")),
        (200, b"<html>", Unknown("status 200 without a message id")),
        (200, b'{"messages": [{"id": 7}]}', Unknown("status 200 without a message id")),
        (500, b"oops", Unknown("status 500 from something before the provider")),
        (502, b"", Unknown("status 502 from something before the provider")),
        (504, b"", Unknown("status 504 from something before the provider")),
        (503, b"", NotSent("turned away with status 503", 7.0)),
        (302, b"", NotSent("turned away with status 302", 7.0)),
    ],
)
def test_an_answer_is_understood(status: int, raw: bytes, answer: Answer) -> None:
    assert read_answer(status, raw, "7") == answer


def test_a_bare_503_may_follow_a_send_that_arrived() -> None:
    """A proxy answers so too when its connection to the provider broke after the request had passed; only a Retry-After says otherwise."""
    assert read_answer(503, b"upstream connect error or disconnect/reset before headers", None) == Unknown(
        "status 503 from something before the provider"
    )
    assert read_answer(503, b"", "soon") == NotSent("turned away with status 503")
    answer = read_answer(503, error(2), None)
    assert isinstance(answer, Rejected), "the provider's own word"


@pytest.mark.parametrize(
    ("code", "http", "fault"),
    [
        (131000, 500, Fault.RETRY), (2, 503, Fault.RETRY), (130429, 429, Fault.THROTTLE), (80007, 429, Fault.THROTTLE),
        (131056, 429, Fault.PAIR), (131049, 400, Fault.LATER), (131026, 400, Fault.RECIPIENT), (131047, 400, Fault.TEMPLATE),
        (132016, 400, Fault.TEMPLATE), (100, 400, Fault.REQUEST), (190, 401, Fault.STOP), (250, 403, Fault.STOP), (0, 401, Fault.STOP),
        (999999, 400, Fault.REQUEST), (999999, 500, Fault.RETRY), (999999, 401, Fault.STOP), (999999, 429, Fault.THROTTLE),
    ],
)  # fmt: skip
def test_each_error_has_its_class(code: int, http: int, fault: Fault) -> None:
    answer = read_answer(http, error(code), None)
    assert isinstance(answer, Rejected)
    assert (answer.error.fault, answer.error.text) == (fault, "why")


def test_a_429_without_a_word_of_the_provider_slows_the_number_down_too() -> None:
    answer = read_answer(429, b"", "9")
    assert answer == Rejected(classify(-1, 429, "status 429"), 9.0)
    assert answer.error.fault is Fault.THROTTLE
    assert outcome(answer).status is Status.QUEUED


def outcome(answer: Answer, strikes: int = 0) -> Outcome:
    return outcome_of(answer, attempts=0, strikes=strikes, max_strikes=8, unknown_wait_s=120, uniform=lambda _, high: high)


def test_only_an_acceptance_is_sent() -> None:
    assert outcome(Accepted("wamid.1")) == Outcome(Status.SENT, provider_id="wamid.1")
    assert outcome(Unknown("timeout")) == Outcome(Status.UNKNOWN, "timeout", delay_s=120)
    assert outcome(NotSent("refused", 9)) == Outcome(Status.QUEUED, "refused", delay_s=9)


@pytest.mark.parametrize("code", sorted(CODES))
def test_the_eighth_fault_of_a_retryable_kind_gives_up_and_no_other(code: int) -> None:
    answer = Rejected(classify(code, 400, "x"))
    expected = {
        Fault.RETRY: Status.DEAD, Fault.THROTTLE: Status.QUEUED, Fault.PAIR: Status.QUEUED, Fault.LATER: Status.QUEUED,
        Fault.STOP: Status.QUEUED, Fault.RECIPIENT: Status.FAILED, Fault.TEMPLATE: Status.FAILED, Fault.REQUEST: Status.FAILED,
    }  # fmt: skip
    assert outcome(answer, strikes=7).status is expected[CODES[code]]
    assert outcome(answer, strikes=0).strike is (CODES[code] is Fault.RETRY)


def test_marketing_that_the_provider_holds_back_waits_for_hours() -> None:
    assert outcome(Rejected(classify(131049, 400, "x"))).delay_s == LATER_S


@pytest.mark.parametrize(("header", "seconds"), [("12", 12.0), ("999999", 3600.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("-1", None)])
def test_retry_after_is_read_and_bounded(header: str, seconds: float | None) -> None:
    answer = read_answer(503, b"", header)
    assert isinstance(answer, NotSent)
    assert answer.retry_after_s == seconds
