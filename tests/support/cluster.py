"""The test bed as tests see it: reuse the one that `TESTBED_DIR` names if it runs, else start one and stop it afterwards."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from testbed.api import Api
from testbed.errors import TestbedError
from testbed.kubeconfig import write_token
from testbed.plane import load_site
from testbed.settings import PORTS, Settings

ROOT: Final = Path(__file__).parents[2]
_PREFIX: Final = "chatbot-testbed-pytest-"


@dataclass(frozen=True)
class Cluster:
    """A running control plane."""

    settings: Settings
    server: str
    mode: str

    @property
    def admin(self) -> Path:
        """Kubeconfig of the administrator: for what a test does, never for what it tests."""
        return self.settings.kubeconfig("admin")

    @property
    def ca_file(self) -> Path:
        """Certificate of the cluster's authority."""
        return self.settings.pki / "ca.crt"

    def account_kubeconfig(self, namespace: str, account: str, file: Path, seconds: int = 6 * 3600) -> Path:
        """Write a kubeconfig with a fresh token of a ServiceAccount."""
        return write_token(file, self.server, self.ca_file, self.account_token(namespace, account, seconds), namespace)

    def account_token(self, namespace: str, account: str, seconds: int = 6 * 3600) -> str:
        """Get a fresh token of a ServiceAccount; the API server gives none for less than 600 seconds."""
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": seconds}}
        answer = Api(self.admin).create(f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token", request)
        token: str = answer["status"]["token"]
        return token


def run_testbed(settings: Settings, *arguments: str, check: bool = True, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run the command line of the test bed on the given directory and ports."""
    environment = {
        **os.environ,
        "TESTBED_DIR": str(settings.directory),
        "TESTBED_CACHE": str(settings.cache),
        "TESTBED_PORT_BASE": str(settings.port_base),
    }
    command = [sys.executable, "-m", "testbed", *arguments]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
    if check and result.returncode != 0:
        raise AssertionError(f"python -m testbed {' '.join(arguments)} ended with {result.returncode}:\n{result.stderr}")
    return result


def find(directory: Path) -> Cluster | None:
    """Return the test bed of a directory if its API server answers."""
    found = load_site(Settings.from_env(directory))
    if found is None:
        return None
    site, settings = found
    try:
        ready = Api(settings.kubeconfig("admin"), timeout=3).wait_ready(3)
    except (OSError, TestbedError):
        return None
    return Cluster(settings, site.server(settings), site.mode) if ready else None


@contextlib.contextmanager
def running_cluster(*arguments: str) -> Iterator[Cluster]:
    """Give a running test bed for the length of a block.

    Args:
        arguments: Options of `up`, if one has to be started; one of another kind than these ask for is not reused.
    """
    if os.environ.get("TESTBED_DIR"):
        cluster = find(Path(os.environ["TESTBED_DIR"]))
        if cluster is not None and cluster.mode == ("node" if "--node" in arguments else "sim" if "--sim" in arguments else "plane"):
            yield cluster
            return
    _remove_orphans()
    with fresh_settings() as settings:
        run_testbed(settings, "up", *arguments, timeout=3600)  # the first time programs are built
        try:
            cluster = find(settings.directory)
            assert cluster is not None, f"no API server although `up` said so; see {settings.log}"
            yield cluster
        finally:
            run_testbed(settings, "down")


@contextlib.contextmanager
def fresh_settings() -> Iterator[Settings]:
    """Give an unused directory and unused ports for a test bed of this very process; removes the directory."""
    directory = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    try:
        yield Settings(directory=directory, cache=Settings.from_env().cache, port_base=free_port_base())
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def free_port_base() -> int:
    """Return the first of enough free consecutive ports, below the range from which the kernel takes client ports."""
    start = 18000 + os.getpid() % 500 * 20
    for base in (*range(start, 32000, 20), *range(18000, start, 20)):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(base, base + len(PORTS)):
                    probe = stack.enter_context(socket.socket())
                    probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(base)
    raise AssertionError("no free ports on this machine")


def _remove_orphans() -> None:
    """Stop test beds of test runs that were killed."""
    for directory in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        owner = directory.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            run_testbed(Settings.from_env(directory), "down", check=False)
            shutil.rmtree(directory, ignore_errors=True)
