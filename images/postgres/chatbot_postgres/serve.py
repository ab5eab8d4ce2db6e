"""`serve`: run the server that a StatefulSet declares. It never makes a cluster: an empty volume is a lost one, and is refused."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from chatbot_postgres.layout import Layout, Refused
from chatbot_postgres.roles import APP, OWNER, render_cluster_sql, render_schema_sql, scram_verifier

HBA = Path(__file__).with_name("pg_hba.conf")
START_TIMEOUT_S = 3600.0
"""Crash recovery may replay much WAL; the pod's startup probe is the limit that people tune."""
PASSWORD_FILES: Mapping[str, str] = {"postgres": "postgres-password", OWNER: "owner-password", APP: "app-password"}


def run(layout: Layout) -> int:
    """Serve until told to stop and return the server's exit code; 1 when it was refused or did not start."""
    supervisor = Supervisor(layout)
    try:
        with layout.locked():
            return supervisor.serve()
    except Refused as refused:
        sys.stderr.write(f"serve: {refused}\n")
        return 1


class Supervisor:
    """One postgres at a time as our child. SIGTERM and SIGINT become its fast shutdown: its own SIGTERM waits for clients to leave."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._child: subprocess.Popen[bytes] | None = None
        self._stopping = False

    def serve(self) -> int:
        """Check the directory, re-assert roles on a server that only the unix socket reaches, then serve TCP.

        Raises:
            Refused: no cluster, unreadable passwords, or the server does not start.
        """
        layout = self._layout
        if not layout.has_cluster():
            raise Refused(f"{layout.pgdata} holds no cluster; the bootstrap Job makes one, the server never does")
        # fsGroup handling of a volume may add group bits, and PostgreSQL refuses them.
        layout.pgdata.chmod(0o700)
        verifiers = {role: scram_verifier(layout.password(name)) for role, name in PASSWORD_FILES.items()}
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self._start(listen="")
        self._wait_until_ready()
        if not self._stopping:
            self._sql("postgres", render_cluster_sql(layout.database, verifiers))
            self._sql(layout.database, render_schema_sql())
        code = self._shut_down()
        if self._stopping or code != 0:
            return code
        self._start(listen="*")
        return self._wait()

    def _start(self, listen: str) -> None:
        settings = {
            "listen_addresses": listen, "port": self._layout.port, "unix_socket_directories": self._layout.sockets, "hba_file": HBA,
            "password_encryption": "scram-sha-256", "timezone": "UTC", "log_timezone": "UTC", "log_line_prefix": "%m [%p] %q%u@%d ",
            "log_checkpoints": "off", "jit": "off",
        }  # fmt: skip
        command = ["postgres", "-D", str(self._layout.pgdata), *(f"-c{name}={value}" for name, value in settings.items())]
        self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        if self._stopping:  # the signal came before there was a child to pass it to
            self._child.send_signal(signal.SIGINT)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(signal.SIGINT)

    def _wait_until_ready(self) -> None:
        """Wait for the end of recovery.

        Raises:
            Refused: the server ended by itself, or is not ready in time.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        command = ["pg_isready", "-q", "-h", str(self._layout.sockets), "-p", str(self._layout.port)]
        while not self._stopping:
            if self._child is None or self._child.poll() is not None:
                raise Refused("the server ended while it started; its log above says why")
            if subprocess.run(command, check=False, timeout=30).returncode == 0:
                return
            if time.monotonic() > deadline:
                self._shut_down()
                raise Refused(f"the server was not ready after {START_TIMEOUT_S:.0f} s")
            time.sleep(0.1)

    def _sql(self, database: str, text: str) -> None:
        """Run SQL as the superuser by peer authentication; the text goes through standard input.

        Raises:
            Refused: with psql's message, which holds no statement.
        """
        command = [
            "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=terse", "-v", "SHOW_CONTEXT=never",
            "-h", str(self._layout.sockets), "-p", str(self._layout.port), "-U", "postgres", "-d", database, "-f", "-",
        ]  # fmt: skip
        env = {**os.environ, "PGOPTIONS": "-c client_min_messages=warning"}
        done = subprocess.run(command, check=False, input=text, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env)
        if done.returncode != 0 and not self._stopping:
            self._shut_down()
            raise Refused(f"roles of {database} can't be asserted: {done.stderr.strip()[:300]}")

    def _shut_down(self) -> int:
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(signal.SIGINT)
        return self._wait()

    def _wait(self) -> int:
        assert self._child is not None  # noqa: S101  narrows the type; every caller has started it
        return self._child.wait()
