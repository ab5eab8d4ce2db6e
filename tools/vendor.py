"""Fetches or checks the few JavaScript files that the Admin UI carries, against `ui/vendor/lock.json`.

`python tools/vendor.py check` compares the committed files with the lock and needs no network (a test runs it);
`python tools/vendor.py fetch` gets the locked npm packages with `npm pack`, checks their integrity and writes the files anew.
"""

import base64
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TypedDict

VENDOR = Path(__file__).parents[1] / "runtime/chatbot_runtime/ui/vendor"


class Package(TypedDict):
    """One entry of the lock: npm's integrity of the tarball, and the SHA-256 of each file taken from it."""

    version: str
    license: str
    integrity: str
    files: dict[str, "Taken"]


class Taken(TypedDict):
    """A file: where it lies in the tarball, and its SHA-256."""

    member: str
    sha256: str


def load() -> dict[str, Package]:
    """Return the lock."""
    locked: dict[str, Package] = json.loads((VENDOR / "lock.json").read_text())
    return locked


def problems() -> list[str]:
    """Say what differs between the lock and the directory: changed, missing and unlocked files."""
    locked = {name: taken["sha256"] for package in load().values() for name, taken in package["files"].items()}
    present = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.iterdir() if path.name != "lock.json"}
    found = [f"{name} is missing" for name in sorted(locked.keys() - present.keys())]
    found += [f"{name} is not in the lock" for name in sorted(present.keys() - locked.keys())]
    return found + [f"{name} differs from the lock" for name in sorted(locked) if name in present and present[name] != locked[name]]


def fetch() -> None:
    """Download the locked packages and write their files.

    Raises:
        SystemExit: a tarball or file is not what the lock says.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, package in load().items():
            spec = f"{name}@{package['version']}"
            packed = subprocess.run(["npm", "pack", "--silent", spec], cwd=folder, check=True, capture_output=True, text=True)
            tarball = Path(folder) / packed.stdout.split()[-1]
            digest = "sha512-" + base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
            if digest != package["integrity"]:
                raise SystemExit(f"{spec}: the tarball's integrity is {digest}, the lock says {package['integrity']}")
            with tarfile.open(tarball) as archive:
                for file, taken in package["files"].items():
                    member = archive.extractfile(taken["member"])
                    if member is None:
                        raise SystemExit(f"{spec} has no file {taken['member']}")
                    (VENDOR / file).write_bytes(member.read())


def main(argv: list[str]) -> int:
    """Run `check` or `fetch`; both end with the comparison."""
    if argv not in (["check"], ["fetch"]):
        sys.stderr.write("usage: vendor.py check|fetch\n")
        return 2
    if argv == ["fetch"]:
        fetch()
    found = problems()
    sys.stderr.write("".join(f"{line}\n" for line in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
