"""Understanding webhooks: every body becomes values, what is not known is kept, and nothing raises but "not JSON". Needs nothing."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot_runtime.channels.cloud.webhook import NotAWebhook, parse_webhook
from chatbot_runtime.queue.inbound import Inbound

NUMBER = "1065"


def body(value: Any, field: str = "messages") -> bytes:
    return json.dumps(
        {"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [{"field": field, "value": value}]}]}
    ).encode()


def value(**parts: Any) -> dict[str, Any]:
    return {"messaging_product": "whatsapp", "metadata": {"phone_number_id": NUMBER}, **parts}


def parse(raw: bytes) -> Inbound:
    return parse_webhook(raw, NUMBER)


def test_a_text() -> None:
    message = {"from": "52155", "id": "wamid.1", "timestamp": "1700000000", "type": "text", "text": {"body": "hola"}}
    [found] = parse(body(value(contacts=[{"wa_id": "52155", "profile": {"name": "Ana"}}], messages=[message]))).messages
    assert (found.channel, found.provider_id, found.wa_id, found.bsuid, found.name) == ("cloud:1065", "wamid.1", "52155", None, "Ana")
    assert (found.kind, found.body, found.payload, found.sent_at) == ("text", "hola", None, datetime.fromtimestamp(1_700_000_000, UTC))


def test_a_contact_without_a_phone_number() -> None:
    message = {"id": "wamid.1", "from_user_id": "MX.1", "type": "text", "text": {"body": "hola"}}
    [found] = parse(body(value(contacts=[{"user_id": "MX.1", "profile": {"name": "Ana"}}], messages=[message]))).messages
    assert (found.wa_id, found.bsuid, found.name) == (None, "MX.1", "Ana")


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"type": "button", "button": {"text": "Sí"}}, "Sí"),
        ({"type": "interactive", "interactive": {"type": "list_reply", "list_reply": {"id": "1", "title": "Horario"}}}, "Horario"),
        ({"type": "image", "image": {"id": "m", "caption": "look"}}, "look"),
        ({"type": "sticker", "sticker": {"id": "m"}}, ""),
        ({"type": "never seen"}, ""),
        ({}, ""),
    ],
)
def test_what_a_person_would_read(message: dict[str, Any], text: str) -> None:
    [found] = parse(body(value(messages=[{"from": "52155", "id": "wamid.1", **message}]))).messages
    assert found.body == text
    assert found.payload is not None


def test_a_status_with_our_token_and_an_error() -> None:
    token = uuid4()
    status = {
        "id": "wamid.1",
        "status": "failed",
        "timestamp": "1700000000",
        "recipient_id": "52155",
        "biz_opaque_callback_data": str(token),
        "errors": [{"code": 131026, "title": "Message undeliverable"}],
    }
    [found] = parse(body(value(statuses=[status]))).statuses
    assert (found.provider_id, found.token, found.status, found.error_code, found.error) == (
        "wamid.1",
        token,
        "failed",
        131026,
        "Message undeliverable",
    )


@pytest.mark.parametrize(
    "raw",
    [
        b"{}", body(value()), body(value(messages=[7]), "account_update"), body(None), body(value(messages=["x"])),
        body(value(messages=[{"id": "wamid.1"}])), body(value(messages=[{"from": "1", "id": "x" * 513}])),
        body(value(statuses=[{"id": "wamid.1", "status": "warmed up"}])), body({"metadata": {"phone_number_id": "other"}, "messages": []}),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_kept(raw: bytes) -> None:
    found = parse(raw)
    assert len(found.unrecognised) == 1
    assert not found.messages
    assert not found.statuses


def test_a_good_message_beside_a_bad_one_is_found() -> None:
    good = {"from": "52155", "id": "wamid.1", "type": "text", "text": {"body": "hola"}}
    found = parse(body(value(messages=[{"id": 7}, good, None], statuses=["?"])))
    assert (len(found.messages), len(found.unrecognised)) == (1, 3)


@pytest.mark.parametrize("raw", [b"", b"not json", b"[]", b"7", b"\xff\xfe", b'{"a":'])
def test_not_a_json_object(raw: bytes) -> None:
    with pytest.raises(NotAWebhook):
        parse(raw)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text() | st.just("messages") | st.just(NUMBER),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "metadata",
                    "phone_number_id",
                    "messages",
                    "statuses",
                    "contacts",
                    "id",
                    "from",
                    "type",
                    "text",
                    "status",
                    "errors",
                    "timestamp",
                ]
            ),
            inner,
        )
    ),
    max_leaves=25,
)


@given(json_values)
def test_nothing_that_is_json_raises(anything: Any) -> None:
    fields = anything if isinstance(anything, dict) else {"messages": anything}
    parse(body({**fields, "metadata": {"phone_number_id": NUMBER}}))
