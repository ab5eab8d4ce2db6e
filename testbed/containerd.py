"""The node's containerd: start it, bring images in once, forget containers of an earlier run."""

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from testbed.blobs import Blobs, Image
from testbed.errors import Failed
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

    def import_images(self, blobs: Blobs, images: Sequence[Image]) -> list[str]:
        """Import the blobs that are not there yet, point each name at its image, and return the names that moved.

        Raises:
            Failed: the import failed.
        """
        present = set(self._ctr("images", "list", "--quiet").split())
        wanted = [image for image in images if image.content_name not in present]
        if wanted:
            self._import(blobs, wanted, set(self._ctr("content", "list", "--quiet").split()))
        for image in images:
            if image.name != image.content_name:
                self._ctr("images", "tag", "--force", image.content_name, image.name)
        current = {image.content_name for image in images}
        repositories = {name.partition(":c-")[0] for name in current}
        if older := [name for name in present if ":c-" in name and name.partition(":c-")[0] in repositories and name not in current]:
            self._ctr("images", "remove", *older)  # what containers still run keeps its files
        return [image.name for image in wanted]

    def _import(self, blobs: Blobs, images: Sequence[Image], present: set[str]) -> None:
        command = [*self._prefix, *self._client, "--namespace", "k8s.io", "images", "import", "-"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            assert process.stdin is not None  # noqa: S101  narrows the type
            try:
                blobs.write_archive(images, present, process.stdin)
                process.stdin.close()
            except BrokenPipeError:
                pass  # it ended early; its output says why
            output = process.stdout.read().decode(errors="replace") if process.stdout else ""
        if process.returncode != 0:
            raise Failed(f"`ctr images import` failed: {output.strip()[-500:]}")

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

    @property
    def _client(self) -> tuple[str, ...]:
        """Run it in the node's mount namespace: unpacking an image mounts its layers."""
        return ("ctr", "--address", str(self._directory / "containerd.sock"))

    def _call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*self._prefix, *self._client, *arguments]
        return subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
