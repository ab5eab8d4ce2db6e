"""The root file system under every image: Debian by debootstrap from this machine's mirror, slimmed as `debian:trixie-slim` is."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from testbed.buildah import Buildah, BuildFailed
from testbed.hostconfig import SUITE, apt_proxy, observe_mirror

INCLUDE = "ca-certificates,tini"
RECIPE = "1"
"""Raise it when the steps below change what the image holds."""

_SLIM = """# As debian:trixie-slim: no documentation, no translations.
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/man/*
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
"""
_REMOVED = (
    "usr/share/man", "usr/share/info", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists", "var/cache/debconf", "var/log",
)  # fmt: skip
_KEPT_EMPTY = ("usr/share/man", "var/cache/apt/archives/partial", "var/lib/apt/lists/partial", "var/cache/debconf", "var/log")
# Build steps mount this machine's own settings over these, so what is in the image stays empty.
_MOUNT_POINTS = ("etc/apt/sources.list", "etc/apt/apt.conf")


def base_name() -> str:
    """Return the base image's name; its tag is the hash of the recipe."""
    key = hashlib.sha256(f"{RECIPE} {SUITE} {INCLUDE} {_SLIM} {_REMOVED} {_MOUNT_POINTS}".encode()).hexdigest()[:12]
    return f"localhost/debian:{SUITE}-{key}"


def ensure_base(buildah: Buildah, work: Path, log: Path, say: Callable[[str], None]) -> str:
    """Build the base image if the storage lacks it and return its name.

    Raises:
        BuildFailed: debootstrap or the import failed.
        Refused: apt knows no Debian mirror.
    """
    name = base_name()
    if buildah.exists(name):
        return name
    say(f"bootstrapping Debian {SUITE}")
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work) as temporary:
        root = Path(temporary) / "rootfs"
        _debootstrap(root, log)
        _slim(root)
        archive = Path(temporary) / "rootfs.tar"
        subprocess.run(["tar", "-C", root, "--numeric-owner", "-cf", archive, "."], check=True)
        (Path(temporary) / "Dockerfile").write_text("FROM scratch\nADD rootfs.tar /\n")
        buildah.run(["bud", "--tag", name, "--file", str(Path(temporary) / "Dockerfile"), temporary])
        shutil.rmtree(root)
    return name


def _debootstrap(root: Path, log: Path) -> None:
    command = ["debootstrap", "--variant=minbase", f"--include={INCLUDE}", SUITE, str(root), observe_mirror().main]
    env = dict(os.environ)
    if (proxy := apt_proxy()) and "http_proxy" not in env:
        env["http_proxy"] = proxy
    # Its own mount namespace, so that the /proc it mounts inside the new root never shows on the machine.
    command = ["unshare", "--mount", "--propagation", "private", *command]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env)
    if done.returncode != 0:
        raise BuildFailed(f"debootstrap failed; log: {log}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-8:]))


def _slim(root: Path) -> None:
    (root / "etc/dpkg/dpkg.cfg.d/slim").write_text(_SLIM)
    for path in _REMOVED:
        shutil.rmtree(root / path, ignore_errors=True)
    for documents in (root / "usr/share/doc").rglob("*"):
        if documents.is_file() and documents.name != "copyright":
            documents.unlink()
    for path in _KEPT_EMPTY:
        (root / path).mkdir(parents=True, exist_ok=True)
    for path in _MOUNT_POINTS:
        (root / path).write_text("")
