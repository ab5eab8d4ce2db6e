"""The runtime under test: the application in this process for most tests, and real processes for start, signals, outages and logs."""

import asyncio
import hashlib
import hmac
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from chatbot_runtime.api.application import create_application
from chatbot_runtime.api.services import Services
from chatbot_runtime.app import build_services, ensure_prepared
from chatbot_runtime.lifecycle import Lifecycle
from chatbot_runtime.settings import Settings
from tests.component.conftest import ACCESS_TOKEN, ADMIN_PASSWORD, APP_SECRET, JWT_SECRET, VERIFY_TOKEN
from tests.component.servers import clean_env

SECRETS = (JWT_SECRET, ADMIN_PASSWORD, APP_SECRET, VERIFY_TOKEN, ACCESS_TOKEN)
NUMBER_ID = "106540352242922"


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 30) -> Any:
    """Return the condition's first true value; fails after a generous time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not happen within {seconds} s")
        time.sleep(0.05)
    return value


async def wait_until(condition: Callable[[], Any], what: str, seconds: float = 30) -> Any:
    """Return the condition's first true value without blocking the loop."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not happen within {seconds} s")
        await asyncio.sleep(0.02)
    return value


@dataclass
class RuntimeProcess:
    """One command of the image as a real process. Its output is kept and, at the end, searched for secrets."""

    role: str
    env: Mapping[str, str]
    port: int = field(default_factory=free_port)
    metrics_port: int = field(default_factory=free_port)
    secrets: tuple[str, ...] = SECRETS
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.log = Path(tempfile.mkstemp(prefix=f"chatbot-{self.role}-", suffix=".log")[1])

    @property
    def url(self) -> str:
        """Base URL of the API."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> "RuntimeProcess":
        """Start the process and return at once."""
        env = clean_env({**self.env, "PORT": str(self.port), "METRICS_PORT": str(self.metrics_port)})
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "chatbot_runtime", self.role], env=env, stdout=stream, stderr=stream, cwd="/"
            )
        return self

    def probe(self, path: str) -> httpx.Response | None:
        """Ask the probe port; None while it does not answer."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.metrics_port}{path}", timeout=5)
        except httpx.TransportError:
            return None

    def wait_live(self) -> "RuntimeProcess":
        """Wait until the probe port answers."""
        wait_for(lambda: self.died() or self.probe("/livez"), f"{self.role} live")
        return self._still_running()

    def wait_ready(self) -> "RuntimeProcess":
        """Wait until /readyz is 200."""
        wait_for(lambda: self.died() or ((answer := self.probe("/readyz")) and answer.status_code == 200), f"{self.role} ready")
        return self._still_running()

    def died(self) -> bool:
        """Whether the process has ended."""
        return self.process is not None and self.process.poll() is not None

    def _still_running(self) -> "RuntimeProcess":
        if self.died():
            pytest.fail(f"{self.role} ended early\n{self.output()}")
        return self

    def signal(self, signum: signal.Signals) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.send_signal(signum)

    def wait_exit(self, seconds: float = 40) -> int:
        """Return the exit code."""
        assert self.process is not None
        return self.process.wait(timeout=seconds)

    def output(self) -> str:
        """Return everything the process has printed."""
        return self.log.read_text(errors="replace")

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log lines of one event."""
        lines = [orjson.loads(line) for line in self.output().splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == name]

    def close(self) -> None:
        """End the process, and fail if a secret was printed."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(timeout=10)
        text = self.output()
        self.log.unlink()
        leaked = [f"secret number {index}" for index, secret in enumerate(self.secrets) if secret in text]
        assert not leaked, f"{self.role} printed {leaked}"


@pytest.fixture(name="start")
def start_fixture(runtime_env: dict[str, str]) -> Iterator[Callable[..., RuntimeProcess]]:
    """A function that starts a command of the image; every process is ended and its output searched for secrets."""
    started: list[RuntimeProcess] = []

    def start(role: str, **env: str) -> RuntimeProcess:
        merged = {**runtime_env, **env}
        secrets = (*SECRETS, merged["DATABASE_PASSWORD"], merged["REDIS_PASSWORD"])
        process = RuntimeProcess(role, merged, secrets=secrets)
        process.port = int(env.get("PORT", process.port))
        started.append(process.start())
        return process

    yield start
    errors = []
    for process in started:
        try:
            process.close()
        except AssertionError as error:
            errors.append(str(error))
    assert not errors


@dataclass
class Api:
    """The application in this process, with a client that has no session yet."""

    services: Services
    client: httpx.AsyncClient
    asgi: Any
    app: Any

    async def log_in(self, username: str = "admin", password: str = ADMIN_PASSWORD) -> dict[str, Any]:
        """Log in; later requests carry the cookie and the CSRF token."""
        answer = await self.client.post("/api/auth/login", json={"username": username, "password": password})
        assert answer.status_code == 200, answer.text
        me: dict[str, Any] = answer.json()
        self.client.headers["x-csrf-token"] = me["csrfToken"]
        return me

    def fresh_client(self, cookies: Mapping[str, str] | None = None) -> httpx.AsyncClient:
        """Return another browser, with these cookies only."""
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.asgi), base_url="http://bot.test", cookies=dict(cookies or {}))


@pytest.fixture(name="api")
async def api_fixture(settings: Settings) -> AsyncIterator[Api]:
    """The application on the test's database, prepared as after a start."""
    services = build_services(settings, Lifecycle(5))
    app, asgi = create_application(services)
    await services.monitor.round()
    await ensure_prepared(services)
    transport = httpx.ASGITransport(asgi)
    async with httpx.AsyncClient(transport=transport, base_url="http://bot.test") as client:
        yield Api(services, client, asgi, app)
    await services.redis.close()
    await services.engine.dispose()


def signed(body: bytes, key: str = APP_SECRET) -> dict[str, str]:
    """Return the headers of a webhook signed like the provider does."""
    digest = hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
    return {"x-hub-signature-256": f"sha256={digest}", "content-type": "application/json"}


def text_webhook(*texts: tuple[str, str], sender: str = "5215512345678", number: str = NUMBER_ID) -> bytes:
    """Return a webhook with text messages, each (provider id, text)."""
    messages = [
        {"id": provider_id, "from": sender, "timestamp": "1764000000", "type": "text", "text": {"body": text}}
        for provider_id, text in texts
    ]
    return webhook({"messages": messages, "contacts": [{"wa_id": sender, "profile": {"name": "Ana"}}]}, number=number)


def webhook(value: Mapping[str, Any], *, number: str = NUMBER_ID) -> bytes:
    """Return a webhook with one change."""
    full = {"messaging_product": "whatsapp", "metadata": {"display_phone_number": "15550001111", "phone_number_id": number}, **value}
    document = {"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [{"field": "messages", "value": full}]}]}
    return json.dumps(document).encode()


def unprivileged_uid() -> int | None:
    """Return the contract's uid if this process may change to it."""
    return 10001 if os.getuid() == 0 else None
