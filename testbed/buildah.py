"""Runs buildah with a storage and a mount namespace of its own: nothing of the machine's other containers is touched."""

import json
import os
import subprocess
from collections.abc import Collection, Sequence
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
        return self._run(self._known_driver(), arguments)

    def exists(self, name: str) -> bool:
        """Whether an image is in the storage."""
        return name in self.run(["images", "--format", "{{.Name}}:{{.Tag}}"]).split()

    def image_id(self, name: str) -> str:
        """Return an image's id, the digest of its configuration."""
        return self.run(["inspect", "--type", "image", "--format", "{{.FromImageID}}", name]).strip()

    def manifest(self, name: str) -> bytes:
        """Return an image's OCI manifest, whose layers are uncompressed and so named by what they hold."""
        return self._storage(["get-image-data", self.image_id(name), "manifest"])

    def configuration(self, name: str, digest: str) -> bytes:
        """Return an image's OCI configuration."""
        return self._storage(["get-image-data", self.image_id(name), digest])

    def layers(self, digests: Collection[str]) -> dict[str, str]:
        """Return the storage's own id of a layer for each digest of its content.

        Raises:
            BuildFailed: the storage lacks one.
        """
        found = {layer["diff-digest"]: layer["id"] for layer in json.loads(self._storage(["layers", "--json"])) if "diff-digest" in layer}
        if absent := sorted(set(digests) - set(found)):
            raise BuildFailed(f"the image storage lacks the layers {', '.join(absent)}; remove {self._directory} to start anew")
        return {digest: found[digest] for digest in digests}

    def write_layer(self, identity: str, target: Path) -> None:
        """Write one layer as an uncompressed tar, byte for byte as it was made."""
        self._storage(["diff", "--uncompressed", "--file", str(target), identity])

    def _storage(self, arguments: Sequence[str]) -> bytes:
        return self._execute(self._known_driver(), "containers-storage", ["--graph", "--run"], arguments)

    def _known_driver(self) -> str:
        return self._driver.read_text() if self._driver.exists() else self._choose_driver()

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
        return self._execute(driver, "buildah", ["--root", "--runroot"], arguments).decode(errors="replace")

    def _execute(self, driver: str, program: str, options: Sequence[str], arguments: Sequence[str]) -> bytes:
        """Run a program on the storage. Both mount directories of it, so they get a mount namespace of their own."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        env = {**os.environ, "STORAGE_DRIVER": driver, "BUILDAH_ISOLATION": "chroot", "TMPDIR": str(self._directory)}
        places = [word for option, name in zip(options, ("storage", "run"), strict=True) for word in (option, str(self._directory / name))]
        command = ["unshare", "--mount", "--propagation", "private", program, *places, *arguments]
        with self._log.open("ab+") as log:
            start = log.seek(0, os.SEEK_END)
            done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=env)
            if program == "buildah":
                log.write(done.stdout)
            log.seek(start)
            output = log.read().decode(errors="replace")
        if done.returncode != 0:
            tail = "\n".join(output.strip().splitlines()[-8:])
            raise BuildFailed(f"`{program} {' '.join(arguments[:2])} …` failed; log: {self._log}\n{tail}")
        return done.stdout
