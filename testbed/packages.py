"""Debian packages that the node and the image builds stand on: find what is missing, install it with apt-get."""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from testbed.errors import Refused

NODE_PROGRAMS = {
    "containerd": "containerd", "containerd-shim-runc-v2": "containerd", "ctr": "containerd", "runc": "runc", "nft": "nftables",
    "iptables": "iptables", "conntrack": "conntrack", "ipset": "ipset", "socat": "socat", "ethtool": "ethtool", "ip": "iproute2",
    "nsenter": "util-linux", "unshare": "util-linux", "losetup": "mount", "mkfs.ext4": "e2fsprogs",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
}  # fmt: skip
"""Program to the Debian package that brings it."""
IMAGE_PROGRAMS = {
    "buildah": "buildah",
    "containers-storage": "containers-storage",
    "debootstrap": "debootstrap",
    "gcc": "gcc",
    "/usr/include/stdlib.h": "libc6-dev",
    "tar": "tar",
    "unshare": "util-linux",
}
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


def find(program: str) -> str | None:
    """Return a program's or file's path; administrators' directories count even when PATH lacks them."""
    if program.startswith("/"):
        return program if Path(program).exists() else None
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{SBIN}")


def missing(programs: dict[str, str]) -> list[str]:
    """Return the packages whose programs are not there, sorted."""
    return sorted({package for program, package in programs.items() if find(program) is None})


def ensure(programs: dict[str, str], say: Callable[[str], None]) -> None:
    """Install what is missing.

    Raises:
        Refused: not Debian, not root, or apt-get failed.
    """
    wanted = missing(programs)
    if not wanted:
        return
    names = " ".join(wanted)
    if find("apt-get") is None or not Path("/etc/debian_version").exists():
        raise Refused(f"the packages {names} are missing and this is no Debian machine: install their equivalents")
    if os.geteuid() != 0:
        raise Refused(f"the packages {names} are missing: run as root, or `apt-get install {names}`")
    say(f"installing {names}")
    _apt_get(["update", "-qq"], names)
    _apt_get(["install", "-y", "-qq", "--no-install-recommends", *wanted], names)
    if still := missing(programs):
        raise Refused(f"apt-get installed {names}, but programs of {' '.join(still)} are still missing")


def _apt_get(arguments: Sequence[str], names: str) -> None:
    # RUNLEVEL=1 keeps packages from starting their services (containerd, for one): the test bed starts its own.
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1", "LC_ALL": "C"}
    done = subprocess.run(["apt-get", *arguments], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
    if done.returncode != 0:
        reason = " ".join(line for line in done.stdout.splitlines() if line.startswith("E:"))[:300]
        raise Refused(f"apt-get can't install {names}: {reason or 'exit code ' + str(done.returncode)}")
