"""PostgreSQL and Redis for component tests: real servers in a temporary directory, on loopback and random ports. Needs their binaries."""

import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

OWNER = "chatbot_owner"
APP = "chatbot_app"
RUNTIME = Path(__file__).parents[2] / "runtime"


class ServerFailed(Exception):
    """A server did not start; the message ends with its log."""


def postgres_bin() -> Path:
    """Return the directory of the newest installed PostgreSQL's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    if on_path is None:
        raise FileNotFoundError("PostgreSQL is not installed (apt-get install postgresql)")
    return Path(on_path).resolve().parent


def _unprivileged() -> str | None:
    """Name the user that PostgreSQL runs as when we are root; it refuses root."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise ServerFailed(log.read_text(errors="replace")[-2000:])
        time.sleep(0.02)


@dataclass
class Database:
    """One database of its own for one test."""

    server: "Postgres"
    name: str

    def url(self, role: str = APP) -> str:
        """Return a URL for a role, over TCP."""
        return f"postgresql://{role}:{self.server.passwords[role]}@127.0.0.1:{self.server.port}/{self.name}"

    def env(self, role: str = APP) -> dict[str, str]:
        """Return the contract's environment for a role."""
        return {
            "DATABASE_HOST": "127.0.0.1",
            "DATABASE_PORT": str(self.server.port),
            "DATABASE_NAME": self.name,
            "DATABASE_USER": role,
            "DATABASE_PASSWORD": self.server.passwords[role],
        }

    def sql(self, statement: str) -> list[str]:
        """Run SQL as superuser and return its output lines."""
        return self.server.sql(statement, self.name)


@dataclass
class Postgres:
    """A PostgreSQL server that tests may stop, kill and start again."""

    root: Path
    port: int = field(default_factory=_free_port)
    passwords: dict[str, str] = field(default_factory=lambda: {name: secrets.token_hex(16) for name in ("postgres", OWNER, APP)})
    process: subprocess.Popen[bytes] | None = None
    fsync: bool = False
    """Whether commits wait for the disk, as in production; tests don't need it, benchmarks do."""

    @classmethod
    def create(cls, *, fsync: bool = False) -> "Postgres":
        """Run initdb, start the server and make the two roles of the contract."""
        root = Path(tempfile.mkdtemp(prefix="chatbot-pg-", dir="/tmp"))
        user = _unprivileged()
        if user:
            shutil.chown(root, user)
        server = cls(root, fsync=fsync)
        subprocess.run(
            [postgres_bin() / "initdb", "-D", root / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"],
            check=True, capture_output=True, user=user, cwd=root, timeout=60,
        )  # fmt: skip
        (root / "data/pg_hba.conf").write_text("local all postgres trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        server.start()
        for role in (OWNER, APP):
            server.sql(f"CREATE ROLE {role} LOGIN PASSWORD '{server.passwords[role]}'")
        return server

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        log = self.root / "log"
        options = {
            "port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": self.root,
            "fsync": "on" if self.fsync else "off",
            "max_connections": 60, "shared_buffers": "64MB", "autovacuum_naptime": "1h", "timezone": "UTC",
        }  # fmt: skip
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                [postgres_bin() / "postgres", "-D", self.root / "data", *(f"-c{name}={value}" for name, value in options.items())],
                stdout=stream, stderr=stream, user=_unprivileged(), cwd=self.root,
            )  # fmt: skip
        _wait(self.answers, self.process, log)

    def answers(self) -> bool:
        """Whether the server accepts connections."""
        command = [postgres_bin() / "pg_isready", "-q", "-h", self.root, "-p", str(self.port), "-U", "postgres"]
        return subprocess.run(command, check=False, timeout=10).returncode == 0

    def stop(self, signum: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT disconnects clients, SIGQUIT is a crash."""
        if self.process is not None:
            self.process.send_signal(signum)
            self.process.wait(timeout=30)
            self.process = None

    def sql(self, statement: str, database: str = "postgres") -> list[str]:
        """Run SQL as superuser and return its output lines."""
        command = [
            postgres_bin() / "psql",
            "-XAtqv",
            "ON_ERROR_STOP=1",
            "-h",
            self.root,
            "-p",
            str(self.port),
            "-U",
            "postgres",
            "-d",
            database,
        ]
        done = subprocess.run([*command, "-c", statement], check=False, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise ServerFailed(done.stderr)
        return done.stdout.splitlines()

    def create_database(self, template: str | None = None) -> Database:
        """Create a database owned by chatbot_owner, as a copy of a template if one is named."""
        name = f"t_{secrets.token_hex(6)}"
        copied = (
            f" TEMPLATE {template} STRATEGY file_copy" if template and self.version >= 15 else f" TEMPLATE {template}" if template else ""
        )
        self.sql(f"CREATE DATABASE {name} OWNER {OWNER}{copied}")
        if not template:
            self.sql(f"REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT ALL ON SCHEMA public TO {OWNER}", name)
        return Database(self, name)

    def drop_database(self, name: str) -> None:
        """Drop a database and whoever is connected to it."""
        self.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    @property
    def version(self) -> int:
        """Major version."""
        match = re.search(r"\b(\d+)", postgres_bin().parent.name)
        return int(match.group(1)) if match else 0

    def destroy(self) -> None:
        """Stop the server and remove its files."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.root, ignore_errors=True)


@dataclass
class Redis:
    """A Redis server with a password that tests may stop and start again; it keeps nothing."""

    root: Path
    port: int = field(default_factory=_free_port)
    password: str = field(default_factory=lambda: secrets.token_hex(16))
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def create(cls) -> "Redis":
        """Start a server."""
        server = cls(Path(tempfile.mkdtemp(prefix="chatbot-redis-", dir="/tmp")))
        server.start()
        return server

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        config = self.root / "redis.conf"
        lines = [
            f"port {self.port}", "bind 127.0.0.1", f"requirepass {self.password}", 'save ""', "appendonly no", f"dir {self.root}",
        ]  # fmt: skip
        config.write_text("\n".join(lines) + "\n")
        log = self.root / "log"
        with log.open("ab") as stream:
            self.process = subprocess.Popen(["redis-server", config], stdout=stream, stderr=stream)
        _wait(self.answers, self.process, log)

    def answers(self) -> bool:
        """Whether the server accepts connections."""
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """Kill the server, as a lost node would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=10)
            self.process = None

    def env(self) -> dict[str, str]:
        """Return the contract's environment."""
        return {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(self.port), "REDIS_PASSWORD": self.password}

    def url(self) -> str:
        """Return a URL."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def destroy(self) -> None:
        """Stop the server and remove its files."""
        self.stop()
        shutil.rmtree(self.root, ignore_errors=True)


def clean_env(extra: Mapping[str, str]) -> dict[str, str]:
    """Return an environment for a runtime process: what Python needs, and only the given settings."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "PYTHONPATH": str(RUNTIME), "PYTHONUNBUFFERED": "1", **extra}
