"""Every answer that is no success becomes the error that says what to do, without the values it was about."""

from typing import Any

import orjson
import pytest

from chatbot_operator.errors import (
    Conflict,
    FieldConflict,
    Forbidden,
    Gone,
    ImmutableFieldChanged,
    Invalid,
    KubeError,
    NotFound,
    NotServed,
    Throttled,
    Unavailable,
)
from chatbot_operator.kube.responses import MAX_MESSAGE, error_of, status_error

TARGET = "Service shop/bot-app"


def answer(message: str, *causes: dict[str, str]) -> bytes:
    return orjson.dumps({"kind": "Status", "message": message, "details": {"causes": list(causes)}})


def cause(reason: str, message: str, field: str) -> dict[str, str]:
    return {"reason": reason, "message": message, "field": field}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, answer("bad"), Invalid),
        (401, answer("Unauthorized"), KubeError),
        (403, answer("services is forbidden: User cannot create"), Forbidden),
        (404, orjson.dumps({"kind": "Status", "message": "not found", "details": {"name": "bot-app", "kind": "services"}}), NotFound),
        (404, answer("not found"), NotServed),
        (404, b"default backend - 404", NotServed),
        (404, b"404 page not found", NotServed),
        (409, answer("the object has been modified"), Conflict),
        (409, answer("conflict", cause("FieldManagerConflict", 'conflict with "kubectl"', ".spec.type")), FieldConflict),
        (410, answer("too old resource version"), Gone),
        (422, answer("spec.replicas: Invalid value: -1: must be positive"), Invalid),
        (422, answer("x", cause("FieldValueInvalid", "field is immutable", "spec.selector")), ImmutableFieldChanged),
        (
            422,
            answer("x", cause("FieldValueForbidden", "Forbidden: updates to statefulset spec", "spec")),
            ImmutableFieldChanged,
        ),
        (422, answer("x", cause("FieldValueForbidden", "spec is immutable after creation except", "spec")), ImmutableFieldChanged),
        (422, answer("x", cause("FieldValueInvalid", "field is immutable", "metadata.uid")), Conflict),
        (422, answer("x is forbidden: ValidatingAdmissionPolicy 'keep' with binding 'keep' denied request: databases are kept"), Forbidden),
        (400, answer('admission webhook "keep.example" denied the request: field is immutable'), Forbidden),
        (429, answer("slow down"), Throttled),
        (500, b"<html>no json", Unavailable),
        (503, b"", Unavailable),
        (504, answer("timeout"), Unavailable),
    ],
)
def test_status_and_causes_choose_the_type(status: int, body: bytes, kind: type[KubeError]) -> None:
    error = error_of(status, body, target=TARGET)
    assert type(error) is kind
    assert str(error).startswith(TARGET)


def test_field_conflict_names_each_manager_once() -> None:
    causes = [cause("FieldManagerConflict", f'conflict with "{name}" using apps/v1', ".spec.x") for name in ("helm", "kubectl", "helm")]
    error = error_of(409, answer("Apply failed with 3 conflicts", *causes), target=TARGET)
    assert isinstance(error, FieldConflict)
    assert error.managers == ("helm", "kubectl")


def test_quota_is_a_reason_of_its_own() -> None:
    assert error_of(403, answer('pods "x" is forbidden: exceeded quota: q, requested: pods=1'), target=TARGET).reason == "QuotaExceeded"
    assert error_of(403, answer("admission webhook denied the request"), target=TARGET).reason == "Forbidden"


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), (None, 1.0), ("Wed, 21 Oct 2015", 1.0), ("", 1.0)])
def test_retry_after_is_in_seconds(header: str | None, seconds: float) -> None:
    error = error_of(429, b"{}", target=TARGET, retry_after=header)
    assert isinstance(error, Throttled)
    assert error.retry_after == seconds


@pytest.mark.parametrize(
    "message",
    [
        'data.password: Invalid value: "hunter2": must be base64',
        'spec: Invalid value: "a \\"hunter2\\" b": no',
        "spec: Invalid value: hunter2: no",
        'spec: Invalid value: {"env":[{"value":"hunter2"}]}: no',
    ],
)
def test_refused_values_are_left_out(message: str) -> None:
    assert "hunter2" not in str(error_of(422, answer(message), target=TARGET))


def test_long_messages_are_cut() -> None:
    assert len(str(error_of(422, answer("x" * 100_000), target=TARGET))) < MAX_MESSAGE + len(TARGET) + 10


@pytest.mark.parametrize("status", [{}, {"code": "x"}, {"code": 410, "message": "old"}])
def test_an_error_event_of_a_watch_is_typed_like_an_answer(status: dict[str, Any]) -> None:
    assert type(status_error(status, target="Pod watch")) is (Gone if status.get("code") == 410 else Unavailable)
