"""Where things lie in the container, read once from the environment, and the lock that keeps a volume to one process."""

import fcntl
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_IDENTIFIER_LINE = re.compile(r"^Database system identifier:\s+(\d+)$", re.MULTILINE)


class Refused(Exception):
    """The command can't do its work; the message is one sentence for a person, without any secret. `reason` is CamelCase."""

    def __init__(self, message: str, reason: str = "BootstrapFailed") -> None:
        super().__init__(message)
        self.reason = reason


def sync_directory(directory: Path) -> None:
    """Wait until the names in a directory are on the disk; syncing a file does not do that."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Paths and names; every default is the contract's."""

    pgdata: Path = Path("/var/lib/postgresql/data/pgdata")
    """`PGDATA`: a subdirectory of the volume, because the volume's own root belongs to the storage (lost+found, its mode, its group)."""
    database: str = "chatbot"
    """`POSTGRES_DB`."""
    secrets: Path = Path("/run/secrets/chatbot")
    """`SECRETS_DIR`: directory of the password files."""
    sockets: Path = Path("/var/run/postgresql")
    """`SOCKET_DIR`: directory of the unix socket, an emptyDir."""
    termination_log: Path = Path("/dev/termination-log")
    """`TERMINATION_LOG`: receives the Job result."""
    port: int = 5432
    """`PGPORT`."""
    expected_identifier: str = ""
    """`EXPECTED_SYSTEM_IDENTIFIER`: bootstrap must find this very cluster and may not make one; empty where a new one may be made."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> "Layout":
        """Read the environment.

        Raises:
            Refused: a name or number is unusable.
        """
        env = os.environ if env is None else env
        default = cls()
        database = env.get("POSTGRES_DB", default.database)
        port = env.get("PGPORT", str(default.port))
        if not _NAME.fullmatch(database):
            raise Refused(f"POSTGRES_DB must be lower case letters, digits and underscores, not {database!r}")
        if not port.isdecimal():
            raise Refused(f"PGPORT must be a number, not {port!r}")
        return cls(
            pgdata=Path(env.get("PGDATA", default.pgdata)),
            database=database,
            secrets=Path(env.get("SECRETS_DIR", default.secrets)),
            sockets=Path(env.get("SOCKET_DIR", default.sockets)),
            termination_log=Path(env.get("TERMINATION_LOG", default.termination_log)),
            port=int(port),
            expected_identifier=env.get("EXPECTED_SYSTEM_IDENTIFIER", ""),
        )

    @property
    def volume(self) -> Path:
        """Root of the mounted volume."""
        return self.pgdata.parent

    def password(self, name: str) -> str:
        """Read a password file, without the newline that an editor leaves.

        Raises:
            Refused: it is missing, empty, or has characters that clients could encode in more than one way.
        """
        path = self.secrets / name
        try:
            value = path.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise Refused(f"password file {path} can't be read: {type(error).__name__}") from None
        if not value:
            raise Refused(f"password file {path} is empty")
        if not value.isascii() or not value.isprintable():
            raise Refused(f"password file {path} must hold printable ASCII only")
        return value

    def has_cluster(self) -> bool:
        """Whether PGDATA is a finished cluster. initdb writes PG_VERSION early, but bootstrap renames only finished work into place."""
        return (self.pgdata / "PG_VERSION").is_file()

    def system_identifier(self) -> str:
        """Return PostgreSQL's own identity of the data directory.

        Raises:
            Refused: the control file can't be read.
        """
        command = ["pg_controldata", str(self.pgdata)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}, timeout=60)
        found = _IDENTIFIER_LINE.search(done.stdout)
        if done.returncode != 0 or found is None:
            raise Refused(f"pg_controldata can't read {self.pgdata}: {done.stderr.strip()[:200]}")
        return found.group(1)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the volume.

        PostgreSQL's own postmaster.pid can't see a process of another container, and ReadWriteOnce admits a second pod on the same node.

        Raises:
            Refused: another process holds it, or the volume is not mounted or not ours.
        """
        try:
            handle = os.open(self.volume / ".chatbot.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Refused(f"the volume {self.volume} can't be written: {error.strerror}") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise Refused(f"another process is using the volume {self.volume}") from None
        try:
            yield
        finally:
            os.close(handle)
