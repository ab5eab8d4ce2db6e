"""The content-addressed cache of built binaries, outside the checkout and shared by every test bed of the machine."""

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from testbed.errors import Refused


def key(parts: Sequence[str | bytes]) -> str:
    """Return 12 hex digits that change when any of the parts (or their borders) do."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()[:12]


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file; waits for whoever holds it. The kernel drops it when the holder dies."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def require_access(directory: Path) -> None:
    """Check that this user may read and change a directory, which need not exist yet.

    Raises:
        Refused: It belongs to somebody else, or would have to be made where only others may.
    """
    existing = directory
    try:
        while not existing.exists():
            existing = existing.parent
        allowed = os.access(existing, os.R_OK | os.W_OK | os.X_OK)
    except PermissionError:  # a directory above it can't even be entered
        allowed = False
    if not allowed:
        raise Refused(f"{directory} can't be used by this user (Permission denied); choose another one with --dir, or run as its owner.")


def require_space(directory: Path, gibibytes: float, why: str) -> None:
    """Check the disk that holds a directory, which need not exist yet.

    Raises:
        Refused: Less than `gibibytes` are free there.
    """
    existing = directory
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free / 2**30
    if free < gibibytes:
        raise Refused(f"{existing} has {free:.1f} GiB free; {why} needs {gibibytes:g} GiB.")
