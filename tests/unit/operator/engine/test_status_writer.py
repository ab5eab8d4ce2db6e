"""The status patch: nothing when equal, only what differs, nulls for what is gone, and never a field of a newer operator."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chatbot_operator.api.v1alpha1.instance_status import ChatbotInstanceStatus
from chatbot_operator.engine.status_writer import status_patch


def _condition(status: str = "True") -> dict[str, Any]:
    return {
        "type": "Ready",
        "status": status,
        "reason": "AllReady",
        "message": "",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }


def _merge(target: Any, patch: Any) -> Any:
    """JSON merge patch, word for word from RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merge(result.get(name), value)
    return result


def test_equal_statuses_need_no_write() -> None:
    status = ChatbotInstanceStatus.model_validate({"observedGeneration": 1, "conditions": [_condition()], "release": {"stable": "1"}})
    assert status_patch(status.to_api(), status) == {}


def test_only_the_difference_is_sent() -> None:
    current = ChatbotInstanceStatus.model_validate({"observedGeneration": 1, "release": {"stable": "1", "desired": "2"}})
    wanted = ChatbotInstanceStatus.model_validate({"observedGeneration": 1, "release": {"stable": "2", "desired": "2"}})
    assert status_patch(current.to_api(), wanted) == {"release": {"stable": "2"}}


def test_a_field_that_is_no_longer_set_is_removed() -> None:
    current = {"observedGeneration": 1, "retry": {"attempts": 3, "generation": 1}, "release": {"stable": "1"}}
    patch = status_patch(current, ChatbotInstanceStatus(observed_generation=1))
    assert patch["retry"] is None
    assert patch["release"] == {"stable": None}


def test_a_condition_list_is_replaced_as_a_whole() -> None:
    current = {"observedGeneration": 1, "conditions": [_condition("False")]}
    wanted = ChatbotInstanceStatus.model_validate({"observedGeneration": 1, "conditions": [_condition()]})
    assert status_patch(current, wanted)["conditions"] == [_condition()]


def test_fields_of_a_newer_operator_survive_even_when_a_decision_did_not_carry_them() -> None:
    current = {"observedGeneration": 1, "drill": {"last": "x"}, "release": {"stable": "1", "canary": "y"}}
    patch = status_patch(current, ChatbotInstanceStatus.model_validate({"observedGeneration": 2, "release": {"stable": "2"}}))
    merged = _merge(current, patch)
    assert merged["drill"] == {"last": "x"}
    assert merged["release"] == {"stable": "2", "canary": "y"}


TEXT = st.none() | st.sampled_from(["1", "2"])
STATUS = st.builds(
    lambda generation, stable, desired, version, attempts, unknown, ready: ChatbotInstanceStatus.model_validate(
        {
            "observedGeneration": generation,
            "release": {name: value for name, value in (("stable", stable), ("desired", desired)) if value},
            **({"operatorVersion": version} if version else {}),
            **({"retry": {"attempts": attempts}} if attempts else {}),
            **({"future": {"x": unknown}} if unknown else {}),
            "conditions": [_condition(ready)],
        }
    ),
    st.integers(-1, 3),
    TEXT,
    TEXT,
    TEXT,
    st.integers(0, 2),
    TEXT,
    st.sampled_from(["True", "False", "Unknown"]),
)


@given(old=STATUS, new=STATUS)
def test_patching_gives_the_wanted_status_and_a_second_patch_is_empty(old: ChatbotInstanceStatus, new: ChatbotInstanceStatus) -> None:
    merged = _merge(old.to_api(), status_patch(old.to_api(), new))
    assert status_patch(merged, new) == {}
    kept = {name: value for name, value in old.to_api().items() if name == "future"}
    assert merged == {**kept, **new.to_api()}
