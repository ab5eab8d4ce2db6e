"""Runs buildah with a storage and a mount namespace of its own: nothing of the machine's other containers is touched."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from testbed.errors import Failed


class BuildFailed(Failed):
    """An image was not built. The message names the step, the end of its output, and the log."""


class Buildah:
    """One image storage in a directory.

    `overlay` is tried first; a machine whose file system refuses it gets `vfs`, slower and larger. The choice is remembered, because
    a storage can't be read with another driver.
    """

    def __init__(self, directory: Path, log: Path) -> None:
        self._directory = directory
        self._log = log
        self._driver = directory / "driver"

    def run(self, arguments: Sequence[str]) -> str:
        """Run one command and return its standard output.

        Raises:
            BuildFailed: it ended with an error.
        """
        driver = self._driver.read_text() if self._driver.exists() else self._choose_driver()
        return self._run(driver, arguments)

    def exists(self, name: str) -> bool:
        """Whether an image is in the storage."""
        return name in self.run(["images", "--format", "{{.Name}}:{{.Tag}}"]).split()

    def image_id(self, name: str) -> str:
        """Return an image's id, the digest of its configuration."""
        return self.run(["inspect", "--type", "image", "--format", "{{.FromImageID}}", name]).strip()

    def _choose_driver(self) -> str:
        for driver in ("overlay", "vfs"):
            try:
                container = self._run(driver, ["from", "scratch"]).strip()
                self._run(driver, ["mount", container])
                self._run(driver, ["rm", container])
            except BuildFailed:
                if driver == "vfs":
                    raise
                continue
            self._driver.write_text(driver)
            return driver
        raise AssertionError("vfs either works or raises")

    def _run(self, driver: str, arguments: Sequence[str]) -> str:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        env = {**os.environ, "STORAGE_DRIVER": driver, "BUILDAH_ISOLATION": "chroot", "TMPDIR": str(self._directory)}
        options = ["--root", str(self._directory / "storage"), "--runroot", str(self._directory / "run")]
        command = ["unshare", "--mount", "--propagation", "private", "buildah", *options, *arguments]
        with self._log.open("ab+") as log:
            start = log.seek(0, os.SEEK_END)
            done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=env)
            log.write(done.stdout)
            log.seek(start)
            output = log.read().decode(errors="replace")
        if done.returncode != 0:
            tail = "\n".join(output.strip().splitlines()[-8:])
            raise BuildFailed(f"`buildah {' '.join(arguments[:2])} …` failed; log: {self._log}\n{tail}")
        return done.stdout.decode(errors="replace")
