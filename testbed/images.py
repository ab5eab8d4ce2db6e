"""Builds the project's images from its own Dockerfiles into archives named by their content, so that nothing is built twice."""

import fcntl
import hashlib
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from testbed.baseimage import ensure_base
from testbed.buildah import Buildah
from testbed.hostconfig import build_mounts

ROOT = Path(__file__).parents[1]
PROJECT_IMAGES = ("operator", "runtime", "postgres", "redis")
PREFIX = "localhost/chatbot-"


@dataclass(frozen=True, slots=True)
class Archive:
    """A built image as a file that `ctr images import` takes."""

    name: str
    """Name and version as manifests use it: `localhost/chatbot-runtime:0.1.0`."""
    content_name: str
    """The same image under a tag made from its content: what a node compares to know whether it has this very image."""
    path: Path


def project_version() -> str:
    """Return the version in pyproject.toml."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return str(version)


def copied_paths(dockerfile: Path) -> list[Path]:
    """Return every file that a Dockerfile's COPY instructions take from the checkout, sorted.

    Raises:
        FileNotFoundError: a COPY names what is not there.
    """
    found: set[Path] = set()
    for line in dockerfile.read_text().splitlines():
        words = line.split()
        if not words or words[0] != "COPY" or any(word.startswith("--from=") for word in words):
            continue
        for source in [word for word in words[1:] if not word.startswith("--")][:-1]:
            path = dockerfile.parent / source
            if not path.exists():
                raise FileNotFoundError(f"{dockerfile.name} copies {source}, which does not exist")
            found |= {path} if path.is_file() else {item for item in path.rglob("*") if item.is_file() and "__pycache__" not in item.parts}
    return sorted(found)


def content_key(dockerfile: Path, base_id: str, version: str) -> str:
    """Return the hash of everything an image is made from: Dockerfile, copied files with their modes, base image, version."""
    digest = hashlib.sha256(f"{base_id} {version}\n".encode())
    for path in [dockerfile, *copied_paths(dockerfile)]:
        executable = bool(path.stat().st_mode & 0o100)
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(dockerfile.parent)} {executable} {content}\n".encode())
    return digest.hexdigest()[:16]


class ImageStore:
    """Images in the cache directory. One process builds at a time; the others wait and find the result."""

    def __init__(self, cache: Path, say: Callable[[str], None]) -> None:
        self._directory = cache / "images"
        self._say = say
        self._log = self._directory / "build.log"
        self._buildah = Buildah(self._directory / "buildah", self._log)

    def ensure(self, images: Sequence[str] = PROJECT_IMAGES) -> list[Archive]:
        """Build what is missing or changed and return one archive an image.

        Args:
            images: `operator`, `runtime`, `postgres`, `redis`.

        Raises:
            BuildFailed: a build failed; its message holds the end of the output.
            Refused: apt knows no Debian mirror.
        """
        with self._locked():
            base = ensure_base(self._buildah, self._directory, self._log, self._say)
            base_id = self._buildah.image_id(base)
            return [self._ensure_one(image, base, base_id) for image in images]

    def _ensure_one(self, image: str, base: str, base_id: str) -> Archive:
        version = project_version()
        dockerfile = ROOT / f"Dockerfile.{image}"
        key = content_key(dockerfile, base_id, version)
        archive = Archive(f"{PREFIX}{image}:{version}", f"{PREFIX}{image}:c-{key}", self._directory / f"chatbot-{image}-{key}.tar")
        if archive.path.exists():
            return archive
        started = time.monotonic()
        volumes = [word for mount in build_mounts(self._directory / "host") for word in ("--volume", mount.argument())]
        self._buildah.run([
            "bud", "--layers", "--build-arg", f"BASE_IMAGE={base}", "--build-arg", f"VERSION={version}", *volumes,
            "--ignorefile", str(ROOT / ".dockerignore"), "--tag", archive.content_name, "--file", str(dockerfile), str(ROOT),
        ])  # fmt: skip
        self._export(archive)
        self._say(f"image {image} built in {time.monotonic() - started:.0f} s ({archive.path.stat().st_size // 1_000_000} MB)")
        return archive

    def _export(self, archive: Archive) -> None:
        """Write the archive under another name first: a file that exists is complete. Layers stay uncompressed, for speed."""
        partial = archive.path.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        self._buildah.run(["push", "--disable-compression", archive.content_name, f"oci-archive:{partial}:{archive.content_name}"])
        partial.rename(archive.path)
        prefix = archive.path.name.rpartition("-")[0]
        for older in self._directory.glob(f"{prefix}-*.tar"):
            if older != archive.path:
                older.unlink()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._directory.mkdir(parents=True, exist_ok=True)
        with (self._directory / "lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
