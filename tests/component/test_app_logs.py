"""What a failed statement leaves in the log: its cause, and no text of a contact. Needs PostgreSQL and Redis."""

import signal
from collections.abc import Callable

import httpx
import pytest

from tests.component.conftest import ADMIN_PASSWORD
from tests.component.running import RuntimeProcess, start_fixture, wait_for  # noqa: F401  a fixture
from tests.component.servers import Database

pytestmark = pytest.mark.component


def test_a_refused_statement_is_logged_without_its_values(start: Callable[..., RuntimeProcess], database: Database) -> None:
    app = start("app").wait_ready()
    database.sql("ALTER TABLE messages ADD CONSTRAINT refuses CHECK (body <> 'a very private text')")
    with httpx.Client(base_url=app.url, timeout=20) as client:
        me = client.post("/api/auth/login", json={"username": "admin", "password": ADMIN_PASSWORD}).json()
        headers = {"x-csrf-token": me["csrfToken"], "idempotency-key": "k"}
        answer = client.post("/api/messages", json={"to": "5215512345678", "text": "a very private text"}, headers=headers)
    assert answer.status_code == 500
    line = wait_for(lambda: app.events("request_failed"), "the log line")[0]
    assert "refuses" in line["exception"]
    assert line["request_id"] == answer.json()["requestId"]
    app.signal(signal.SIGTERM)
    assert app.wait_exit() == 0
    assert "a very private text" not in app.output()
    assert "5215512345678" not in app.output()
