"""Layers, configurations and manifests of built images as files named by their digest: a changed image costs only its changed layers."""

import hashlib
import io
import json
import tarfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from testbed.buildah import Buildah

_DAY_S: Final = 86_400.0
_MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True, slots=True)
class Image:
    """A built image."""

    name: str
    """Name and version as manifests use it: `localhost/chatbot-runtime:0.1.0`."""
    content_name: str
    """The same image under a tag made from its content: what a node compares to know whether it has this very image."""
    manifest: str
    """Digest of its manifest."""


class Blobs:
    """A directory of blobs. A blob that has its final name is complete."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, digest: str) -> Path:
        """Return where a blob lies, whether it exists or not."""
        return self._directory / digest.removeprefix("sha256:")

    def take(self, buildah: Buildah, content_name: str) -> str:
        """Copy an image out of buildah's storage, except what is here already, and return its manifest's digest."""
        self._directory.mkdir(parents=True, exist_ok=True)
        manifest = buildah.manifest(content_name)
        content: dict[str, Any] = json.loads(manifest)
        layers = {layer["digest"] for layer in content["layers"]}
        missing = {digest for digest in layers if not self.path(digest).exists()}
        for digest, identity in buildah.layers(missing).items():
            partial = self.path(digest).with_suffix(".partial")
            buildah.write_layer(identity, partial)
            partial.rename(self.path(digest))
        self._put(buildah.configuration(content_name, content["config"]["digest"]))
        return self._put(manifest)

    def references(self, manifest: str) -> list[str]:
        """Return the digests that make an image: manifest, configuration, layers."""
        content: dict[str, Any] = json.loads(self.path(manifest).read_text())
        return [manifest, content["config"]["digest"], *(layer["digest"] for layer in content["layers"])]

    def complete(self, manifest: str) -> bool:
        """Whether every blob of an image is here."""
        return self.path(manifest).exists() and all(self.path(digest).exists() for digest in self.references(manifest))

    def prune(self, kept: Iterable[str]) -> None:
        """Delete blobs of no kept manifest, but only old ones: another test bed may be reading a young one."""
        needed = {self.path(digest) for manifest in kept for digest in self.references(manifest)}
        for path in self._directory.iterdir():
            if path not in needed and time.time() - path.stat().st_mtime > _DAY_S:
                path.unlink()

    def write_archive(self, images: Iterable[Image], present: set[str], target: IO[bytes]) -> None:
        """Stream an OCI layout that lacks the blobs which the reader has already.

        Args:
            images: what the index names, each under its content name.
            present: digests that the reader has.
            target: receives a tar.
        """
        with tarfile.open(fileobj=target, mode="w|") as archive:
            _add(archive, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
            written = set(present)
            entries = []
            for image in images:
                for digest in self.references(image.manifest):
                    # The manifest is always sent: readers want what the index names.
                    if digest not in written or digest == image.manifest:
                        archive.add(self.path(digest), f"blobs/sha256/{digest.removeprefix('sha256:')}")
                        written.add(digest)
                size = self.path(image.manifest).stat().st_size
                annotations = {"io.containerd.image.name": image.content_name}
                entries.append({"mediaType": _MANIFEST_TYPE, "digest": image.manifest, "size": size, "annotations": annotations})
            _add(archive, "index.json", json.dumps({"schemaVersion": 2, "manifests": entries}).encode())

    def _put(self, data: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        partial = self.path(digest).with_suffix(".partial")
        partial.write_bytes(data)
        partial.rename(self.path(digest))
        return digest


class Index:
    """Which content an image's key stands for: one small file a build."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def get(self, image: str, content: str) -> str | None:
        """Return the digest of the manifest built from a content, or None."""
        path = self._path(image, content)
        return path.read_text() if path.exists() else None

    def put(self, image: str, content: str, manifest: str) -> None:
        """Remember a build."""
        self._directory.mkdir(parents=True, exist_ok=True)
        partial = self._path(image, content).with_suffix(".partial")
        partial.write_text(manifest)
        partial.rename(self._path(image, content))

    def forget_all_but(self, image: str, number: int) -> None:
        """Keep the newest builds of an image: a switch of branches wants an older one back."""
        files = sorted(self._directory.glob(f"{image}@*"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in files[number:]:
            path.unlink()

    def manifests(self) -> Iterator[str]:
        """Yield the manifest of every remembered build."""
        for path in self._directory.glob("*@*"):
            yield path.read_text()

    def _path(self, image: str, content: str) -> Path:
        return self._directory / f"{image}@{content}"


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))
