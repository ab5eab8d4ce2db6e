"""The operator as a process of its own, so that tests can kill it like a kernel would."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.support.cluster import ROOT

TEST_SETTINGS: Final = {
    "CHATBOT_POSTGRES_IMAGE": "localhost/chatbot-postgres:test",
    "CHATBOT_REDIS_IMAGE": "localhost/chatbot-redis:test",
    "CHATBOT_LEASE_SECONDS": "3",
    "CHATBOT_LOG_LEVEL": "debug",
    "CHATBOT_OPERATOR_VERSION": "0.0.0-test",
}


class OperatorProcess:
    """One operator process; start it, kill it, start it again."""

    def __init__(
        self, kubeconfig: Path, log: Path, lease_namespace: str, namespaces: str, settings: Mapping[str, str] | None = None
    ) -> None:
        """Prepare, without starting.

        Args:
            kubeconfig: With the operator's own ServiceAccount, never an administrator's.
            log: File that gets stdout and stderr of every start.
            lease_namespace: Where the Lease lives and its account may write it.
            namespaces: Comma list to watch; empty watches all.
            settings: Environment variables that win over `TEST_SETTINGS`.
        """
        self.log = log
        self.kubeconfig = kubeconfig
        self._settings = {
            **TEST_SETTINGS,
            "CHATBOT_LEASE_NAMESPACE": lease_namespace,
            "CHATBOT_NAMESPACES": namespaces,
            **(settings or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.probe_port = 0
        self.metrics_port = 0

    def start(self) -> "OperatorProcess":
        """Start the process; returns at once, without waiting for readiness."""
        assert not self.running, "the operator already runs"
        self.probe_port, self.metrics_port = _free_port(), _free_port()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("CHATBOT_", "POD_"))},
            **self._settings,
            "KUBECONFIG": str(self.kubeconfig),
            "CHATBOT_PROBE_PORT": str(self.probe_port),
            "CHATBOT_METRICS_PORT": str(self.metrics_port),
            "PYTHONPATH": str(ROOT / "operator"),
        }
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "chatbot_operator.main"]
            self._process = subprocess.Popen(
                command, cwd=self.log.parent, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        return self

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None, "the operator was never started"
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code of the last run, negative for a signal, None while it runs."""
        return self._process.poll() if self._process is not None else None

    def wait_probe(self, name: str = "readyz", code: int = 200, timeout: float = 30.0) -> None:
        """Wait until a probe answers with a code."""
        deadline = time.monotonic() + timeout
        while self.probe(name) != code:
            assert self.running, f"the operator ended with {self.exit_code}; see {self.log}:\n{self.log.read_text()[-3000:]}"
            assert time.monotonic() < deadline, (
                f"/{name} was not {code} within {timeout:g} s; see {self.log}:\n{self.log.read_text()[-3000:]}"
            )
            time.sleep(0.05)

    def probe(self, name: str) -> int:
        """Return the status code of a probe, 0 if nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.probe_port}/{name}", timeout=5) as answer:
                code: int = answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0
        return code

    def metrics(self) -> str:
        """Return the text of `/metrics`."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5) as answer:
            text: str = answer.read().decode()
        return text

    def kill(self) -> None:
        """SIGKILL and wait."""
        self.signal(signal.SIGKILL)
        self.wait()

    def terminate(self, timeout: float = 40.0) -> int:
        """SIGTERM, wait, and return the exit code; SIGKILL when it does not end in time."""
        self.signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(timeout)
        self.kill()
        raise AssertionError(f"the operator did not end within {timeout:g} s of SIGTERM; see {self.log}")

    def signal(self, number: signal.Signals) -> None:
        """Send any signal; SIGSTOP and SIGCONT play a process that hangs."""
        if self.running:
            os.kill(self.pid, number)

    def wait(self, timeout: float = 10.0) -> int:
        """Wait for the end and return the exit code."""
        assert self._process is not None, "the operator was never started"
        return self._process.wait(timeout)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
