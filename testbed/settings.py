"""Where one test bed lives: its work directory, the cache that it shares with others, and its ports."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from testbed.errors import Refused

SERVICE_CIDR: Final = "10.96.0.0/16"
SERVICE_IP: Final = "10.96.0.1"
"""ClusterIP of the `kubernetes` Service: the first address of `SERVICE_CIDR`."""

PORTS: Final = ("apiserver", "etcd", "etcd-peer", "controller-manager", "scheduler", "kwok")
"""Listeners of a test bed, in the order of their ports from `TESTBED_PORT_BASE`."""

DEFAULT_PORT_BASE: Final = 16440


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Paths and ports of one test bed."""

    directory: Path
    """`TESTBED_DIR` or `--dir`: state of this one test bed; absolute."""
    cache: Path
    """`TESTBED_CACHE`: binaries and images, shared by every test bed of the machine; absolute."""
    port_base: int
    """`TESTBED_PORT_BASE`: first of `len(PORTS)` consecutive ports."""

    @classmethod
    def from_env(cls, directory: Path | None = None) -> "Settings":
        """Read the environment; `directory` (from `--dir`) wins over `TESTBED_DIR`.

        Raises:
            Refused: `TESTBED_PORT_BASE` is no usable port.
        """
        cache = Path(os.environ.get("TESTBED_CACHE") or Path.home() / ".cache" / "chatbot-testbed")
        chosen = directory or Path(os.environ.get("TESTBED_DIR") or cache / "run")
        text = os.environ.get("TESTBED_PORT_BASE") or str(DEFAULT_PORT_BASE)
        if not text.isdigit() or not 1024 <= int(text) <= 65535 - len(PORTS):
            raise Refused(f"TESTBED_PORT_BASE is {text!r}; it must be a number from 1024 to {65535 - len(PORTS)}.")
        return cls(directory=chosen.expanduser().absolute(), cache=cache.expanduser().absolute(), port_base=int(text))

    @property
    def pids(self) -> Path:
        """One JSON file for each process that was started."""
        return self.directory / "pids"

    @property
    def log(self) -> Path:
        """Output of each process, and the audit log; kept after `down`."""
        return self.directory / "log"

    @property
    def pki(self) -> Path:
        """Certificates and keys."""
        return self.directory / "pki"

    @property
    def audit_log(self) -> Path:
        """One JSON event a line, level Metadata, stages ResponseStarted and later."""
        return self.log / "audit.log"

    def kubeconfig(self, name: str) -> Path:
        """Kubeconfig of a user such as `admin`."""
        return self.directory / f"{name}.kubeconfig"

    def port(self, listener: str) -> int:
        """Port of one of `PORTS`."""
        return self.port_base + PORTS.index(listener)
