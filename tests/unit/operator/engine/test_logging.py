"""Logs: one JSON object a line, with the pass, and without any secret, whoever writes them."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from chatbot_operator.logging import REDACTED, configure, redact

SECRET = "hunter2-hunter2-hunter2"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    before = logging.getLogger().handlers
    configure("info", pod="p1")
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    logging.getLogger().handlers = before


def test_our_lines_carry_the_pass_and_the_pod(lines: Any) -> None:
    with structlog.contextvars.bound_contextvars(pass_id="abc", instance="shop"):
        structlog.get_logger("x").info("pass.done", seconds=0.1)
    (line,) = lines()
    assert (line["event"], line["pass_id"], line["instance"], line["pod"], line["level"]) == ("pass.done", "abc", "shop", "p1", "info")
    assert line["time"].endswith("Z")


def test_lines_of_libraries_are_json_too(lines: Any) -> None:
    logging.getLogger("some.library").warning("it %s", "broke")
    (line,) = lines()
    assert (line["event"], line["logger"], line["level"]) == ("it broke", "some.library", "warning")


def test_debug_lines_are_dropped_at_info(lines: Any) -> None:
    structlog.get_logger("x").debug("noise")
    logging.getLogger("kopf").info("noise")
    assert lines() == []


def test_a_traceback_is_one_line_without_secrets(lines: Any) -> None:
    try:
        int(f"password={SECRET}")
    except ValueError:
        structlog.get_logger("x").exception("pass.failed")
    (line,) = lines()
    assert "ValueError" in line["exception"]
    assert SECRET not in json.dumps(line)


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {SECRET}",
        f"Basic {SECRET}",
        f"postgresql://chatbot:{SECRET}@db:5432/x",
        f"redis://:{SECRET}@cache:6379/0",
        f"dsn has password={SECRET};",
        JWT,
        f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_secrets_in_text_are_cut_out(text: str) -> None:
    assert SECRET not in redact(text)
    assert JWT not in redact(text)
    assert REDACTED in redact(text)


@given(key=st.sampled_from(["password", "dbPassword", "token", "client_secret", "api-key", "Cookie", "DSN"]), value=st.text(min_size=1))
def test_values_of_secret_keys_are_dropped_at_any_depth(key: str, value: str) -> None:
    assert redact({"a": [{key: value}]}) == {"a": [{key: REDACTED}]}


def test_names_of_secrets_stay_because_repairs_need_them() -> None:
    assert redact({"secret_name": "shop-postgres"}) == {"secret_name": "shop-postgres"}
