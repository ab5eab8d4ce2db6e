"""A 200 is a promise that outlives kills: of the app again and again, and of the database server in between. Needs PostgreSQL and Redis."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import httpx
import pytest

from tests.component.conftest import migrate
from tests.component.running import (
    RuntimeProcess,
    signed,
    start_fixture,  # noqa: F401  a fixture
    text_webhook,
    wait_for,
)
from tests.component.servers import Database, Postgres, ServerFailed

pytestmark = pytest.mark.component

SENDERS = 8
KILLS = 4
BETWEEN = 60
"""Deliveries that are answered with 200 between two kills, at least."""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A migrated database on a server of its own, whose commits wait for the disk as in production."""
    server = Postgres.create(fsync=True)
    try:
        made = server.create_database()
        migrate(made, tmp_path / "result")
        yield made
    finally:
        server.destroy()


class Flood:
    """Senders that repeat each delivery until it is answered with 200, as the provider does."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/webhooks/cloud"
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(SENDERS)]
        self.promised: list[str] = []
        self.failed = 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=60)

    def _send(self, number: int) -> None:
        serial = 0
        with httpx.Client(timeout=10) as client:
            while not self._stop.is_set():
                provider_id = f"wamid.{number}.{serial}"
                if self._post(client, text_webhook((provider_id, "hola"), sender=f"52155000000{number:02d}")):
                    self.promised.append(provider_id)
                    serial += 1
                else:
                    self.failed += 1
                    self._stop.wait(0.05)

    def _post(self, client: httpx.Client, body: bytes) -> bool:
        try:
            return client.post(self._url, content=body, headers=signed(body)).status_code == 200
        except httpx.TransportError:
            return False


def kill_app(app: RuntimeProcess) -> None:
    assert app.process is not None
    app.process.kill()
    app.process.wait(timeout=10)


def kill_server(server: Postgres) -> None:
    """Kill the postmaster alone, and start another as soon as the orphans have let go of the shared memory."""
    assert server.process is not None
    server.process.kill()
    server.process.wait(timeout=10)

    def starts() -> bool:
        try:
            server.start()
        except ServerFailed:
            return False
        return True

    wait_for(starts, "the server's start after a kill", seconds=60)


def test_what_was_answered_with_200_is_there_once_whatever_was_killed(start: Callable[..., RuntimeProcess], database: Database) -> None:
    app = start("app").wait_ready()
    with Flood(app.url) as flood:
        for number in range(KILLS):
            before = len(flood.promised)
            wait_for(lambda before=before: len(flood.promised) >= before + BETWEEN, "deliveries are taken in", seconds=60)
            if number == 1:
                kill_server(database.server)
                continue
            kill_app(app)
            app.start().wait_ready()
        before = len(flood.promised)
        wait_for(lambda: len(flood.promised) >= before + BETWEEN, "deliveries are taken in after the last kill", seconds=60)
    assert flood.failed > 0, "a kill was noticed"
    stored = database.sql("SELECT provider_message_id FROM messages")
    assert len(stored) == len(set(stored))
    assert set(flood.promised) <= set(stored)
    assert len(flood.promised) == len(set(flood.promised))
    waiting = database.sql("SELECT (SELECT count(*) FROM inbox), (SELECT sum(pending) FROM chat_lanes WHERE kind = 'in')")
    assert waiting == [f"{len(stored)}|{len(stored)}"], "each waits for the bot, and is counted"
