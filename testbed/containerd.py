"""The node's containerd: start it, bring images in once, forget containers of an earlier run."""

import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from testbed.errors import Failed
from testbed.images import Archive
from testbed.processes import Processes

NAME: Final = "containerd"


class Containerd:
    """A containerd with its files in one directory. Its content outlives `down`, so that images are imported once."""

    def __init__(self, directory: Path, processes: Processes, prefix: tuple[str, ...]) -> None:
        self._directory = directory
        self._processes = processes
        self._prefix = prefix

    def start(self) -> None:
        """Start it and wait until it answers; containers that an earlier run left in its records are removed first.

        Raises:
            Failed: it ended or does not answer.
        """
        self._launch()
        if stale := self._ctr("containers", "list", "--quiet").split():
            self._ctr("containers", "remove", *stale)
            self._processes.stop(NAME)  # its CRI part has read them at its start
            self._launch()

    def import_images(self, archives: Iterable[Archive]) -> list[str]:
        """Import what is not there yet and return the names that were imported.

        Raises:
            Failed: an import failed.
        """
        present = set(self._ctr("images", "list", "--quiet").split())
        imported = []
        for archive in archives:
            if archive.content_name not in present:
                self._ctr("images", "import", str(archive.path))
                imported.append(archive.name)
            self._ctr("images", "tag", "--force", archive.content_name, archive.name)
        return imported

    def _launch(self) -> None:
        self._processes.start(NAME, [NAME, "--config", str(self._directory / "containerd.toml")], prefix=self._prefix)
        deadline = time.monotonic() + 30
        while True:
            self._processes.require_alive(NAME)
            if self._call("version").returncode == 0:
                return
            if time.monotonic() > deadline:
                raise Failed("containerd does not answer after 30 s; see its log.")
            time.sleep(0.05)

    def _ctr(self, *arguments: str) -> str:
        done = self._call("--namespace", "k8s.io", *arguments)
        if done.returncode != 0:
            raise Failed(f"`ctr {' '.join(arguments[:2])}` failed: {done.stderr.strip()[-500:]}")
        return done.stdout

    def _call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        # In the node's mount namespace: unpacking an image mounts its layers.
        command = [*self._prefix, "ctr", "--address", str(self._directory / "containerd.sock"), *arguments]
        return subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
