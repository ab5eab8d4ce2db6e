"""The image under test, as a command. Needs PostgreSQL and Redis.

`CONTRACT_COMMAND` is split like a shell does; the contract's command word is appended and the contract's environment is set. It is our
own runtime by default. An image is tested with a small wrapper that passes the environment and the secrets' directory on to its container.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.component.conftest import (  # noqa: F401  fixtures
    ADMIN_PASSWORD,
    APP_SECRET,
    JWT_SECRET,
    VERIFY_TOKEN,
    empty_database,
    outage,
    postgres,
    redis,
)
from tests.component.running import NUMBER_ID, free_port, wait_for
from tests.component.servers import APP, OWNER, Database, Redis, clean_env


def command_of(word: str) -> list[str]:
    """Return the argument list that runs one of the contract's commands."""
    return [*shlex.split(os.environ.get("CONTRACT_COMMAND", f"{shlex.quote(sys.executable)} -m chatbot_runtime")), word]


@dataclass
class Running:
    """A long-running command."""

    process: subprocess.Popen[str]
    port: int
    metrics_port: int
    log: Path

    def get(self, path: str, *, main: bool = False) -> httpx.Response | None:
        """Ask one of the ports; None while it does not answer."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.port if main else self.metrics_port}{path}", timeout=5)
        except httpx.TransportError:
            return None

    def wait_status(self, path: str, status: int, *, main: bool = False) -> httpx.Response:
        """Wait for a status; fails with the command's output when it ends."""

        def seen() -> httpx.Response | None:
            assert self.process.poll() is None, f"ended with {self.process.returncode}\n{self.log.read_text()}"
            answer = self.get(path, main=main)
            return answer if answer is not None and answer.status_code == status else None

        found: httpx.Response = wait_for(seen, f"{path} {status}", seconds=60)
        return found


@dataclass
class Image:
    """Runs commands with the contract's environment; secrets are files with a line end, as people make them."""

    folder: Path
    values: Mapping[str, str]
    secrets: Mapping[str, str]

    def env(self, **changes: str) -> dict[str, str]:
        """Return the environment; a change to "" leaves a variable out."""
        files = {}
        for name, value in self.secrets.items():
            path = self.folder / name.lower().replace("_", "-")
            path.write_text(value + "\n")
            files[f"{name}_FILE"] = str(path)
        merged = {**self.values, **files, **changes}
        return clean_env({name: value for name, value in merged.items() if value})

    def run(self, word: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(command_of(word), env=self.env(**changes), capture_output=True, text=True, timeout=120, check=False, cwd="/")

    def migrate(self, **changes: str) -> tuple[int, str]:
        """Run `migrate` as the owner; return exit code and Job result."""
        result = self.folder / "termination-log"
        result.write_text("")
        owner = {"DATABASE_USER": OWNER, "DATABASE_APP_ROLE": APP, "TERMINATION_LOG": str(result)}
        (self.folder / "owner-password").write_text(self.values["OWNER_PASSWORD"])
        done = self.run("migrate", **{**owner, "DATABASE_PASSWORD_FILE": str(self.folder / "owner-password"), **changes})
        for secret in (*self.secrets.values(), self.values["OWNER_PASSWORD"]):
            assert secret not in done.stdout + done.stderr + result.read_text()
        return done.returncode, result.read_text()


@pytest.fixture
def image(empty_database: Database, redis: Redis, tmp_path: Path) -> Image:  # noqa: F811  a fixture asks for fixtures by their names
    """The image with stores of its own: an empty database and a shared Redis."""
    values = {
        "INSTANCE_NAME": "contract",
        "RELEASE_VERSION": "1.2.3",
        "LOG_LEVEL": "debug",
        "BIND_HOST": "127.0.0.1",
        "DATABASE_HOST": "127.0.0.1",
        "DATABASE_PORT": str(empty_database.server.port),
        "DATABASE_NAME": empty_database.name,
        "DATABASE_USER": APP,
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": str(redis.port),
        "WA_PHONE_NUMBER_ID": NUMBER_ID,
        "WA_API_BASE": "http://127.0.0.1:9",
        "DRAIN_TIMEOUT_S": "20",
        "OWNER_PASSWORD": empty_database.server.passwords[OWNER],
    }
    secrets = {
        "DATABASE_PASSWORD": empty_database.server.passwords[APP],
        "REDIS_PASSWORD": redis.password,
        "JWT_SECRET": JWT_SECRET,
        "ADMIN_PASSWORD": ADMIN_PASSWORD,
        "WA_ACCESS_TOKEN": "EAAG-contract-5b2e8d0c",
        "WA_APP_SECRET": APP_SECRET,
        "WA_VERIFY_TOKEN": VERIFY_TOKEN,
    }
    folder = tmp_path / "secrets"
    folder.mkdir()
    return Image(folder, values, secrets)


@pytest.fixture
def start(image: Image, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """A function that starts a long-running command. At the end each is stopped, and its output must hold no secret."""
    started: list[Running] = []

    def start_one(word: str, **changes: str) -> Running:
        port, metrics_port = free_port(), free_port()
        profile = tmp_path / "profile"
        profile.mkdir(exist_ok=True)
        worker = {"WEB_NUMBER": "support", "WEB_PROFILE_DIR": str(profile)} if word == "worker-web" else {}
        env = image.env(**{**worker, "PORT": str(port), "METRICS_PORT": str(metrics_port), "OWNER_PASSWORD": "", **changes})
        log = tmp_path / f"{word}-{port}.log"
        with log.open("w") as stream:
            process = subprocess.Popen(command_of(word), env=env, stdout=stream, stderr=stream, text=True, cwd="/")
        running = Running(process, port, metrics_port, log)
        started.append(running)
        return running

    yield start_one
    for running in started:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait(timeout=10)
        text = running.log.read_text()
        assert not [name for name, secret in image.secrets.items() if secret in text]
