"""Needs PostgreSQL's programs: what the PostgreSQL image runs, on this machine: bootstrap, crash, serve, rotate, stop."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.component.servers import _free_port, _unprivileged, postgres_bin

SOURCE = Path(__file__).parents[2] / "images/postgres/chatbot_postgres"
PASSWORDS = {"postgres-password": 'super "quoted" pw', "owner-password": "owner-pw-'1'", "app-password": "app-pw-$HOME"}


@dataclass
class Box:
    """What the container has: a volume, secrets, a socket directory, a termination log, and the user that owns them."""

    root: Path
    port: int = field(default_factory=_free_port)
    process: subprocess.Popen[bytes] | None = None
    expected: str = ""

    @property
    def env(self) -> dict[str, str]:
        return {
            "PATH": f"{postgres_bin()}:/usr/bin:/bin", "PYTHONPATH": str(self.root / "code"), "LANG": "C.UTF-8",
            "PGDATA": str(self.root / "volume/pgdata"), "SECRETS_DIR": str(self.root / "secrets"), "SOCKET_DIR": str(self.root / "sockets"),
            "TERMINATION_LOG": str(self.root / "termination-log"), "PGPORT": str(self.port),
            "EXPECTED_SYSTEM_IDENTIFIER": self.expected,
        }  # fmt: skip

    def start(self, command: str) -> subprocess.Popen[bytes]:
        # The machine's own Python: the user of the test may not enter the directory of a virtual environment.
        with (self.root / "log").open("ab") as log:
            return subprocess.Popen(
                ["/usr/bin/python3", "-m", "chatbot_postgres", command],
                env=self.env, stdout=log, stderr=log, user=_unprivileged(), cwd=self.root, extra_groups=[], start_new_session=True,
            )  # fmt: skip

    def bootstrap(self) -> tuple[int, dict[str, Any]]:
        code = self.start("bootstrap").wait(60)
        result: dict[str, Any] = json.loads((self.root / "termination-log").read_text())
        return code, result

    def serve(self) -> None:
        self.process = self.start("serve")
        deadline = time.monotonic() + 30
        while not self.ready():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def ready(self) -> bool:
        """Whether the probe of the contract passes; the port opens a moment before connections are accepted."""
        command = [postgres_bin() / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", "chatbot_app", "-d", "chatbot"]
        return subprocess.run(command, check=False).returncode == 0

    def listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(30)

    def sql(self, role: str, statement: str, password: str | None = None) -> subprocess.CompletedProcess[str]:
        secret = PASSWORDS[{"chatbot_owner": "owner-password", "chatbot_app": "app-password", "postgres": "postgres-password"}[role]]
        command = [postgres_bin() / "psql", "-XAtq", "-h", "127.0.0.1", "-p", str(self.port), "-U", role, "-d", "chatbot", "-c", statement]
        return subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=30, env={**os.environ, "PGPASSWORD": password or secret}
        )

    def log(self) -> str:
        return (self.root / "log").read_text(errors="replace")

    def write(self, name: str, text: str) -> None:
        (self.root / "secrets" / name).write_text(text)
        own(self.root / "secrets" / name)


def own(path: Path) -> None:
    if user := _unprivileged():
        shutil.chown(path, user)


@pytest.fixture
def box() -> Iterator[Box]:
    # Directly below /tmp: a unix socket's path is short, and pytest's own directories admit only root.
    root = Path(tempfile.mkdtemp(prefix="chatbot-pgimage-", dir="/tmp"))
    root.chmod(0o755)
    made = Box(root)
    shutil.copytree(SOURCE, root / "code/chatbot_postgres", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("volume", "secrets", "sockets"):
        (root / name).mkdir()
        own(root / name)
    own(root)
    for name, text in PASSWORDS.items():
        made.write(name, text + "\n")
    yield made
    if made.process is not None and made.process.poll() is None:
        made.stop(signal.SIGINT)
    shutil.rmtree(root)


def test_bootstrap_makes_a_cluster_once_and_names_it(box: Box) -> None:
    code, first = box.bootstrap()
    assert (code, first["outcome"], first["reason"]) == (0, "Succeeded", "Initialized")
    assert first["systemIdentifier"].isdecimal()
    code, second = box.bootstrap()
    assert (code, second["reason"]) == (0, "AlreadyInitialized")
    assert second["systemIdentifier"] == first["systemIdentifier"]
    assert {path.name for path in (box.root / "volume").iterdir()} == {"pgdata", ".chatbot.lock"}


def test_bootstrap_killed_half_way_starts_over(box: Box) -> None:
    process = box.start("bootstrap")
    while not (box.root / "volume/pgdata.new/base").exists():
        assert process.poll() is None, box.log()
    os.killpg(process.pid, signal.SIGKILL)  # in a container the kernel ends initdb with its parent
    process.wait()
    assert not (box.root / "volume/pgdata").exists(), "half a cluster must never look like a whole one"
    code, result = box.bootstrap()
    assert (code, result["reason"]) == (0, "Initialized"), box.log()


def test_bootstrap_refuses_a_directory_with_foreign_files(box: Box) -> None:
    foreign = box.root / "volume/pgdata/photo.jpg"
    foreign.parent.mkdir()
    foreign.write_text("x")
    own(foreign.parent)
    code, result = box.bootstrap()
    assert (code, result["outcome"], result["reason"]) == (1, "Failed", "DirectoryNotEmpty")
    assert "systemIdentifier" not in result
    assert [path.name for path in foreign.parent.iterdir()] == ["photo.jpg"]


def test_bootstrap_that_must_find_a_database_makes_none(box: Box) -> None:
    box.expected = "7000000000000000000"
    code, result = box.bootstrap()
    assert (code, result["outcome"], result["reason"]) == (1, "Failed", "DatabaseMissing")
    assert not (box.root / "volume/pgdata").exists()
    box.expected = ""
    made = box.bootstrap()[1]["systemIdentifier"]
    box.expected = "7000000000000000000"
    code, result = box.bootstrap()
    assert (code, result["reason"], result["systemIdentifier"]) == (1, "WrongDatabase", made)
    box.expected = made
    code, result = box.bootstrap()
    assert (code, result["reason"], result["systemIdentifier"]) == (0, "AlreadyInitialized", made)


@pytest.mark.parametrize("text", ["", "\n", "contraseña"])
def test_bootstrap_refuses_an_unusable_password(box: Box, text: str) -> None:
    box.write("postgres-password", text)
    code, result = box.bootstrap()
    assert (code, result["reason"]) == (1, "BootstrapFailed")
    assert "postgres-password" in result["message"]
    assert not (box.root / "volume/pgdata").exists()


def test_serve_refuses_an_empty_volume(box: Box) -> None:
    assert box.start("serve").wait(30) == 1
    assert "holds no cluster" in box.log()
    assert [path.name for path in (box.root / "volume").iterdir()] == [".chatbot.lock"]


def test_serve_gives_the_app_no_more_than_it_needs(box: Box) -> None:
    box.bootstrap()
    box.serve()
    assert box.sql("chatbot_owner", "CREATE TABLE kept (a int); INSERT INTO kept VALUES (1)").returncode == 0
    assert "permission denied for schema public" in box.sql("chatbot_app", "CREATE TABLE mine (a int)").stderr
    assert "permission denied for table kept" in box.sql("chatbot_app", "SELECT * FROM kept").stderr
    assert "permission denied" in box.sql("chatbot_app", "CREATE DATABASE x").stderr
    assert box.sql("chatbot_owner", "GRANT SELECT ON kept TO chatbot_app").returncode == 0
    assert box.sql("chatbot_app", "SELECT a FROM kept").stdout == "1\n"
    assert box.sql("postgres", "SELECT rolsuper FROM pg_roles WHERE rolname = current_user").stdout == "t\n"
    assert "password authentication failed" in box.sql("chatbot_app", "SELECT 1", password="wrong").stderr


def test_no_password_is_in_arguments_or_logs(box: Box) -> None:
    box.bootstrap()
    box.serve()
    lines = [path.read_bytes().decode(errors="replace") for path in Path("/proc").glob("[0-9]*/cmdline")]
    for secret in PASSWORDS.values():
        assert secret not in box.log()
        assert not any(secret in line for line in lines)
        assert secret.encode() not in b"".join(
            path.read_bytes() for path in (box.root / "volume").rglob("*") if path.is_file() and "wal" not in str(path)
        )


def test_a_restart_takes_the_new_password_and_repairs_the_mode(box: Box) -> None:
    box.bootstrap()
    box.serve()
    box.sql("chatbot_owner", "CREATE TABLE kept (a int)")
    assert box.stop() == 0
    assert not box.listens()
    box.write("app-password", "a-new-one")
    (box.root / "volume/pgdata").chmod(0o2770)  # what fsGroup does to a remounted volume
    box.serve()
    assert "password authentication failed" in box.sql("chatbot_app", "SELECT 1").stderr
    assert box.sql("chatbot_app", "SELECT 1", password="a-new-one").stdout == "1\n"
    assert box.sql("chatbot_owner", "SELECT count(*) FROM kept").stdout == "0\n"
    assert (box.root / "volume/pgdata").stat().st_mode & 0o7777 == 0o700


def test_sigterm_does_not_wait_for_clients(box: Box) -> None:
    box.bootstrap()
    box.serve()
    with subprocess.Popen(
        [postgres_bin() / "psql", "-XAtq", "-h", "127.0.0.1", "-p", str(box.port), "-U", "chatbot_app", "-d", "chatbot"],
        env={**os.environ, "PGPASSWORD": PASSWORDS["app-password"]}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as client:  # fmt: skip
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(b"SELECT 1;\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"1\n"
        assert box.stop() == 0
        client.stdin.close()


def test_a_second_server_on_the_volume_is_refused(box: Box) -> None:
    box.bootstrap()
    box.serve()
    assert box.start("serve").wait(30) == 1
    assert "another process is using the volume" in box.log()
    code, result = box.bootstrap()
    assert (code, result["outcome"]) == (1, "Failed")


def test_a_server_killed_with_its_supervisor_starts_again(box: Box) -> None:
    box.bootstrap()
    box.serve()
    box.sql("chatbot_owner", "CREATE TABLE kept (a int); INSERT INTO kept VALUES (7)")
    postmaster = int((box.root / "volume/pgdata/postmaster.pid").read_text().splitlines()[0])
    box.stop(signal.SIGKILL)
    os.kill(postmaster, signal.SIGQUIT)  # in a container the kernel ends it with its parent
    while Path(f"/proc/{postmaster}").exists():
        time.sleep(0.02)
    box.serve()
    assert box.sql("chatbot_owner", "SELECT a FROM kept").stdout == "7\n"
