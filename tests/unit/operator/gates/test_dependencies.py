"""Pure. Each row of what can be with a Secret that a component reads."""

import pytest

from chatbot_operator.gates.dependencies import judge_dependencies, judge_lost_secret
from chatbot_operator.model.plan import Use
from chatbot_operator.model.snapshot import SecretFacts

FACTS = SecretFacts("s", {"a": "hash"})


@pytest.mark.parametrize(
    ("use", "generated", "secrets", "decision", "reason"),
    [
        (Use("s", "a"), False, {"s": FACTS}, "ok", "Available"),
        (Use("s", ""), False, {"s": FACTS}, "ok", "Available"),
        (Use("s", "b"), False, {"s": FACTS}, "stop", "DependencyMissing"),
        (Use("s", "b"), True, {"s": FACTS}, "stop", "DependencyMissing"),
        (Use("s", "a"), False, {"s": None}, "stop", "DependencyMissing"),
        (Use("s", "a"), True, {"s": None}, "wait", "SecretPending"),
        (Use("s", "a"), False, {}, "wait", "SecretNotRead"),
    ],
)
def test_a_secret_is_judged(use: Use, generated: bool, secrets: dict[str, SecretFacts | None], decision: str, reason: str) -> None:
    verdict = judge_dependencies([use], {"s"} if generated else set(), secrets, {})
    assert (verdict.decision.value, verdict.reason) == (decision, reason)
    assert verdict.unknown is (reason == "SecretNotRead")
    assert verdict.ok or "Secret s" in verdict.message


def test_the_first_that_is_missing_is_named() -> None:
    verdict = judge_dependencies([Use("s", "a"), Use("t", "k"), Use("u", "k")], set(), {"s": FACTS, "t": None, "u": None}, {})
    assert verdict.message == "Secret t does not exist; create it with the key k, and this goes on by itself"


def test_a_lost_secret_is_not_waited_for_although_it_was_generated() -> None:
    lost = judge_lost_secret("s", instance="demo", beside="the data")
    assert judge_dependencies([Use("s", "a")], {"s"}, {"s": None}, {"s": lost}) == lost
    assert "no new password is made" in lost.message
    assert "restore the Secret with its label chatbotops.io/instance=demo" in lost.message, "the watch sees no other Secret"
