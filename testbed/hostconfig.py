"""What a build borrows from this machine while it runs: mirror, proxy, pip's settings, certificates. None of it stays in an image."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import Refused

CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
SUITE = "trixie"
_BORROWED = "/mnt"
"""Exists, empty, in every Debian image: a mount there leaves no trace."""
_APT_SETTINGS = re.compile(r"^Acquire::(https?::|Check-|Retries|ForceIPv)", re.IGNORECASE)
_PIP_LINE = re.compile(r"^(?P<where>.+?)='(?P<value>.*)'$")
_PIP_KEYS = ("index-url", "extra-index-url", "find-links", "trusted-host", "proxy", "timeout", "no-index")


@dataclass(frozen=True, slots=True)
class Mount:
    """A file of this machine that a build step sees read-only."""

    source: Path
    target: str

    def argument(self) -> str:
        """Return the value of buildah's `--volume`."""
        return f"{self.source}:{self.target}:ro"


@dataclass(frozen=True, slots=True)
class AptMirror:
    """Where packages of `SUITE` come from, derived from what apt on this machine uses for its own release."""

    main: str
    security: str | None

    def sources(self) -> str:
        """Return a sources.list."""
        lines = [f"deb {self.main} {SUITE} main", f"deb {self.main} {SUITE}-updates main"]
        if self.security:
            lines.append(f"deb {self.security} {SUITE}-security main")
        return "\n".join(lines) + "\n"


def observe_mirror() -> AptMirror:
    """Read apt's configured mirrors in whatever format and file they stand.

    Raises:
        Refused: none serves a Debian release.
    """
    codename = _codename()
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Identifier: Packages"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    pairs = [line.split() for line in done.stdout.splitlines() if len(line.split()) == 2]
    by_release = {release: uri.rstrip("/") for uri, release in reversed(pairs)}
    if codename not in by_release:
        raise Refused(f"apt on this machine has no source for Debian {codename}, so there is no mirror to build images from")
    return AptMirror(by_release[codename], by_release.get(f"{codename}-security"))


def _codename() -> str:
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.partition("=")[2].strip('"')
    raise Refused("/etc/os-release names no codename; images are built on Debian")


def apt_settings() -> str:
    """Return this machine's proxy and validity settings of apt."""
    done = subprocess.run(["apt-config", "dump"], check=False, capture_output=True, text=True)
    return "".join(f"{line}\n" for line in done.stdout.splitlines() if _APT_SETTINGS.match(line))


def apt_proxy() -> str | None:
    """Return apt's HTTP proxy, for programs that read only the environment."""
    done = subprocess.run(["apt-config", "shell", "P", "Acquire::http::Proxy"], check=False, capture_output=True, text=True)
    value = done.stdout.strip().partition("=")[2].strip("'")
    return value or None


def pip_settings() -> tuple[str, list[Mount]]:
    """Return a pip.conf with this machine's index settings (files and environment alike), and mounts of local directories that it names."""
    done = subprocess.run([sys.executable, "-m", "pip", "config", "list"], check=False, capture_output=True, text=True)
    values: dict[str, str] = {}
    for line in done.stdout.splitlines():
        match = _PIP_LINE.match(line)
        key = match["where"].rpartition(".")[2] if match else ""
        if match and key in _PIP_KEYS:
            values[key] = match["value"]
    mounts = []
    places = []
    for number, place in enumerate(values.pop("find-links", "").split()):
        if "://" in place:
            places.append(place)
        elif Path(place).is_dir():
            mounts.append(Mount(Path(place), f"{_BORROWED}/find-links-{number}"))
            places.append(mounts[-1].target)
    if places:
        values["find-links"] = " ".join(places)
    if CA_BUNDLE.exists():
        values["cert"] = str(CA_BUNDLE)
    return "[global]\n" + "".join(f"{key} = {value}\n" for key, value in values.items()), mounts


def build_options(directory: Path) -> list[str]:
    """Write the borrowed settings below a directory and return the options of `buildah bud` that lend them to the steps of a build."""
    pip_conf, find_links = pip_settings()
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "sources.list").write_text(observe_mirror().sources())
    (directory / "apt.conf").write_text(apt_settings())
    (directory / "pip.conf").write_text(pip_conf)
    for mount in find_links:  # the directory is mounted read-only, so mount points inside it must exist before
        (directory / Path(mount.target).name).mkdir(exist_ok=True)
    mounts = [
        Mount(directory, _BORROWED),
        *find_links,
        Mount(directory / "sources.list", "/etc/apt/sources.list"),
        Mount(directory / "apt.conf", "/etc/apt/apt.conf"),
    ]
    if CA_BUNDLE.exists():
        mounts.append(Mount(CA_BUNDLE, str(CA_BUNDLE)))
    volumes = [word for mount in mounts for word in ("--volume", mount.argument())]
    return ["--build-arg", f"PIP_CONFIG_FILE={_BORROWED}/pip.conf", *volumes]
