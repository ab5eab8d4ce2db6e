"""The node's own control group, parent of every pod: made at the start, emptied by SIGKILL and removed at the end."""

import contextlib
import hashlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from testbed.errors import Failed, Refused
from testbed.settings import Settings

ROOT: Final = Path("/sys/fs/cgroup")
NEEDED: Final = ("cpu", "cpuacct", "cpuset", "memory", "pids", "devices", "freezer", "blkio")
"""Controllers of version 1 that kubelet and runc want; version 2 brings its own."""


@dataclass(frozen=True, slots=True)
class Cgroups:
    """One name in every hierarchy of this machine."""

    name: str
    root: Path = ROOT

    @classmethod
    def of(cls, settings: Settings) -> "Cgroups":
        """Return the groups of a test bed; the name is unique for its work directory."""
        return cls(f"chatbot-testbed-{hashlib.sha256(str(settings.directory).encode()).hexdigest()[:8]}")

    @property
    def unified(self) -> bool:
        """Whether this machine uses version 2."""
        return (self.root / "cgroup.controllers").exists()

    def check(self) -> None:
        """Look before anything is changed.

        Raises:
            Refused: no control groups, missing controllers, or no right to write.
        """
        missing = [] if self.unified else [name for name in NEEDED if not (self.root / name).is_dir()]
        if missing:
            raise Refused(f"Control groups lack {', '.join(missing)} below {self.root}; a node can't run here.")
        if not all(os.access(path, os.W_OK) for path in self._hierarchies()):
            raise Refused(f"{self.root} can't be written; a node needs control groups of its own.")

    def create(self) -> None:
        """Make the groups."""
        for hierarchy in self._hierarchies():
            group = hierarchy / self.name
            group.mkdir(exist_ok=True)
            for name in ("cpuset.cpus", "cpuset.mems"):  # version 1 admits no process before both are set
                if (group / name).exists() and not self.unified and not (group / name).read_text().strip():
                    (group / name).write_text((hierarchy / name).read_text())

    def kill(self) -> None:
        """End every process in the groups: containers, whatever became of their shims.

        Raises:
            Failed: some survived.
        """
        deadline = time.monotonic() + 20
        while pids := self._pids():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise Failed(f"Processes {sorted(pids)} of the node did not end after SIGKILL.")
            time.sleep(0.02)

    def remove(self) -> None:
        """Remove the groups, children first. Safe to call when there are none."""
        for hierarchy in self._hierarchies():
            for path in sorted(self._below(hierarchy / self.name), key=lambda path: len(path.parts), reverse=True):
                _rmdir(path)

    def _hierarchies(self) -> list[Path]:
        if self.unified:
            return [self.root]
        # cpu,cpuacct may be one mount with two symbolic links to it.
        found = {path.resolve() for path in self.root.iterdir() if path.is_dir() and (path / "cgroup.procs").exists()}
        return sorted(found)

    def _below(self, group: Path) -> list[Path]:
        """Return a group and all below it. `os.walk` passes over those that go away meanwhile, as the runtime removes them itself."""
        return [Path(path) for path, _, _ in os.walk(group)]

    def _pids(self) -> set[int]:
        pids: set[int] = set()
        for hierarchy in self._hierarchies():
            for group in self._below(hierarchy / self.name):
                with contextlib.suppress(OSError):  # the group went away meanwhile
                    pids |= {int(line) for line in (group / "cgroup.procs").read_text().split()}
        return pids


def _rmdir(path: Path) -> None:
    """Remove a group; the kernel still counts members for a moment after they ended."""
    deadline = time.monotonic() + 5
    while True:
        try:
            path.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise Failed(f"The control group {path} can't be removed: {error.strerror}") from None
            time.sleep(0.02)
        else:
            return
