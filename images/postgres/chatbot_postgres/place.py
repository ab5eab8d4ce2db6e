"""Where a backup lies: its directory on the target, the archive in it, and the manifest, which is written last and is the commit."""

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chatbot_postgres.layout import Refused, sync_directory

_OBJECT_KEY = re.compile(r"[A-Za-z0-9][-A-Za-z0-9]*(/[A-Za-z0-9][-A-Za-z0-9]*){1,5}")
_FULL = {28: "the volume of backups is full", 122: "the quota of the volume of backups is used up"}
"""ENOSPC and EDQUOT."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One backup on its target; every default is the contract's."""

    directory: Path
    """`BACKUP_DIR` / `BACKUP_OBJECT_KEY`."""
    object_key: str
    timeout: int = 3600
    """`BACKUP_TIMEOUT_S`: seconds after which the Job gives up and says so."""
    recipient_file: Path = Path("/run/secrets/chatbot/recipient")
    """`BACKUP_RECIPIENT_FILE`: age recipient to encrypt for."""
    identity_file: Path = Path("/run/secrets/chatbot/identity")
    """`BACKUP_IDENTITY_FILE`: age identity to decrypt with."""
    expected_sha256: str = ""
    """`BACKUP_EXPECTED_SHA256`: what the maker of the archive reported; empty where nobody knows."""
    expected_size: str = ""
    """`BACKUP_EXPECTED_SIZE`: in bytes, as text."""
    termination_log: Path = Path("/dev/termination-log")
    """`TERMINATION_LOG`: receives the Job result."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> "Place":
        """Read the environment.

        Raises:
            Refused: a variable is missing or unusable.
        """
        env = os.environ if env is None else env
        root, object_key, timeout = env.get("BACKUP_DIR", ""), env.get("BACKUP_OBJECT_KEY", ""), env.get("BACKUP_TIMEOUT_S", "3600")
        if not root.startswith("/"):
            raise Refused(f"BACKUP_DIR must be an absolute path, not {root!r}", "SettingsUnusable")
        if not _OBJECT_KEY.fullmatch(object_key):
            raise Refused(f"BACKUP_OBJECT_KEY must be names separated by slashes, not {object_key!r}", "SettingsUnusable")
        if not timeout.isdecimal() or not int(timeout):
            raise Refused(f"BACKUP_TIMEOUT_S must be a number of seconds, not {timeout!r}", "SettingsUnusable")
        place = cls(directory=Path(root) / object_key, object_key=object_key, timeout=int(timeout))
        return replace(
            place,
            recipient_file=Path(env.get("BACKUP_RECIPIENT_FILE", place.recipient_file)),
            identity_file=Path(env.get("BACKUP_IDENTITY_FILE", place.identity_file)),
            expected_sha256=env.get("BACKUP_EXPECTED_SHA256", ""),
            expected_size=env.get("BACKUP_EXPECTED_SIZE", ""),
            termination_log=Path(env.get("TERMINATION_LOG", place.termination_log)),
        )

    @property
    def archive(self) -> Path:
        """The encrypted archive."""
        return self.directory / "archive.age"

    @property
    def partial(self) -> Path:
        """The archive while it is written."""
        return self.directory / "archive.age.partial"

    @property
    def manifest(self) -> Path:
        """What was stored, as JSON."""
        return self.directory / "manifest.json"

    @property
    def _unfinished(self) -> Path:
        return self.directory / "manifest.json.partial"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the directory and hold it: the pod of an earlier attempt may still be ending.

        Raises:
            Refused: another process writes this backup, or the target can't be used.
        """
        with refusing_full_disks():
            made = [path for path in (self.directory, *self.directory.parents) if not path.exists()]
            self.directory.mkdir(parents=True, exist_ok=True)
            for path in made:
                sync_directory(path.parent)
            handle = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Refused("another Job is still writing this backup", "TargetBusy") from None
            except OSError as error:
                raise Refused(f"the volume of backups can't be locked: {error.strerror}", "TargetUnavailable") from None
            yield
        finally:
            os.close(handle)

    def clear(self) -> None:
        """Take away what an attempt left that never got to its manifest.

        Raises:
            Refused: the target can't be written.
        """
        with refusing_full_disks():
            for path in (self.partial, self.archive, self._unfinished):
                path.unlink(missing_ok=True)

    def commit(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest, then give archive and manifest their names, the manifest last: a crash before that leaves no backup.

        Raises:
            Refused: the target is full or can't be written.
        """
        with refusing_full_disks():
            with self._unfinished.open("w", encoding="utf-8") as out:
                json.dump(manifest, out, indent=1)
                out.flush()
                os.fsync(out.fileno())
            self.partial.rename(self.archive)
            sync_directory(self.directory)
            self._unfinished.rename(self.manifest)
            sync_directory(self.directory)

    def read_manifest(self) -> dict[str, Any] | None:
        """Return the manifest, or None where there is none.

        Raises:
            Refused: it can't be read or understood.
        """
        try:
            found = json.loads(self.manifest.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Refused(f"the manifest can't be read: {error.strerror}", "TargetUnavailable") from None
        except ValueError:
            raise Refused("the manifest is not JSON", "ManifestUnreadable") from None
        if not isinstance(found, dict) or not isinstance(found.get("archive"), dict):
            raise Refused("the manifest does not describe an archive", "ManifestUnreadable")
        return found


def fingerprint(recipient: str) -> str:
    """Return what names a key without giving it away: 16 hex digits of the SHA-256 of its age recipient."""
    return hashlib.sha256(recipient.encode()).hexdigest()[:16]


@contextmanager
def refusing_full_disks() -> Iterator[None]:
    """Turn errors of the target into sentences.

    Raises:
        Refused: with TargetFull or TargetUnavailable.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise Refused(f"{_FULL[error.errno]}; make it larger, or remove what is no longer needed", "TargetFull") from None
        raise Refused(f"the volume of backups can't be used: {error.strerror}", "TargetUnavailable") from None
