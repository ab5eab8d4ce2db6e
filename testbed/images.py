"""Builds the project's images from its own Dockerfiles into archives named by their content, so that nothing is built twice."""

import hashlib
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

from testbed.baseimage import ensure_base
from testbed.blobs import Blobs, Image, Index
from testbed.buildah import Buildah, BuildFailed
from testbed.cache import key, locked
from testbed.hostconfig import build_options

ROOT = Path(__file__).parents[1]
PROJECT_IMAGES = ("operator", "runtime", "postgres", "redis")
PREFIX = "localhost/chatbot-"
KEPT_BUILDS = 3


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
        self._index = Index(self._directory / "index")
        self.blobs = Blobs(self._directory / "blobs")

    def ensure(self, images: Sequence[str] = PROJECT_IMAGES) -> list[Image]:
        """Build what is missing or changed.

        Args:
            images: `operator`, `runtime`, `postgres`, `redis`.

        Raises:
            BuildFailed: a build failed; its message holds the end of the output.
            Refused: apt knows no Debian mirror.
        """
        with locked(self._directory / "lock"):
            base = ensure_base(self._buildah, self._directory, self._log, self._say)
            base_id = self._buildah.image_id(base)
            return [self._ensure_one(image, base, base_id) for image in images]

    def ensure_pause(self) -> Image:
        """Build the image of pod sandboxes: one static program and nothing else.

        Raises:
            BuildFailed: the compiler or the build failed.
        """
        source = ROOT / "images" / "pause" / "pause.c"
        content = key([source.read_bytes()])
        name = f"localhost/pause:c-{content}"
        with locked(self._directory / "lock"):
            manifest = self._known("pause", content)
            if manifest is None:
                with tempfile.TemporaryDirectory(dir=self._directory) as temporary:
                    self._build_pause(source, name, Path(temporary))
                manifest = self._keep("pause", content, name)
        return Image(name, name, manifest)

    def _build_pause(self, source: Path, name: str, context: Path) -> None:
        command = ["gcc", "-Os", "-static", "-s", "-Wall", "-Werror", "-o", str(context / "pause"), str(source)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise BuildFailed(f"pause.c does not compile: {done.stderr[-500:]}")
        dockerfile = context / "Dockerfile"
        dockerfile.write_text('FROM scratch\nCOPY pause /pause\nUSER 65535:65535\nENTRYPOINT ["/pause"]\n')
        self._buildah.run(["bud", "--tag", name, "--file", str(dockerfile), str(context)])

    def _ensure_one(self, image: str, base: str, base_id: str) -> Image:
        version = project_version()
        dockerfile = ROOT / f"Dockerfile.{image}"
        content = content_key(dockerfile, base_id, version)
        name, content_name = f"{PREFIX}{image}:{version}", f"{PREFIX}{image}:c-{content}"
        manifest = self._known(image, content)
        if manifest is None:
            started = time.monotonic()
            borrowed = build_options(self._directory / "host")
            self._buildah.run([
                "bud", "--layers", "--build-arg", f"BASE_IMAGE={base}", "--build-arg", f"VERSION={version}", *borrowed,
                "--ignorefile", str(ROOT / ".dockerignore"), "--tag", content_name, "--file", str(dockerfile), str(ROOT),
            ])  # fmt: skip
            manifest = self._keep(image, content, content_name)
            self._say(f"image {image} built in {time.monotonic() - started:.0f} s")
        return Image(name, content_name, manifest)

    def _known(self, image: str, content: str) -> str | None:
        manifest = self._index.get(image, content)
        return manifest if manifest is not None and self.blobs.complete(manifest) else None

    def _keep(self, image: str, content: str, content_name: str) -> str:
        """Copy a fresh build out of buildah's storage, remember it, and forget old ones."""
        manifest = self.blobs.take(self._buildah, content_name)
        self._index.put(image, content, manifest)
        self._index.forget_all_but(image, KEPT_BUILDS)
        self.blobs.prune(self._index.manifests())
        return manifest
