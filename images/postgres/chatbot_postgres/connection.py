"""How a Job reaches the database: settings for libpq, with the password in a file that only the Job can read."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from chatbot_postgres.layout import Refused

CONNECT_SECONDS = 15
_UNUSABLE = "SettingsUnusable"


@dataclass(frozen=True, slots=True)
class Connection:
    """What libpq is told. `password` never gets into arguments, the environment or messages."""

    host: str
    port: str
    database: str
    user: str
    password: str = field(repr=False)
    sslmode: str = ""

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> "Connection":
        """Read `DATABASE_URL_FILE`, or `DATABASE_HOST`, `_PORT`, `_NAME`, `_USER` and `_PASSWORD_FILE` (docs/runtime-contract.md).

        Raises:
            Refused: something is missing or can't be understood.
        """
        env = os.environ if env is None else env
        if "DATABASE_URL_FILE" in env:
            return cls.from_url(_read(env["DATABASE_URL_FILE"]))
        missing = [name for name in ("DATABASE_HOST", "DATABASE_NAME", "DATABASE_USER", "DATABASE_PASSWORD_FILE") if not env.get(name)]
        if missing:
            raise Refused(f"{', '.join(missing)} must be set", _UNUSABLE)
        password = _read(env["DATABASE_PASSWORD_FILE"])
        return cls(env["DATABASE_HOST"], env.get("DATABASE_PORT", "5432"), env["DATABASE_NAME"], env["DATABASE_USER"], password)

    @classmethod
    def from_url(cls, url: str) -> "Connection":
        """Return the parts of a `postgresql://` URL; `host` and `port` among its options win, as they do for the runtime.

        Raises:
            Refused: it is none; the message does not hold it.
        """
        try:
            parts = urlsplit(url)
            options = {name: values[0] for name, values in parse_qs(parts.query).items()}
            port = int(options.get("port") or parts.port or 5432)
        except ValueError:
            raise Refused("the database URL can't be read", _UNUSABLE) from None
        host, name = options.get("host") or parts.hostname or "", unquote(parts.path.strip("/"))
        if not parts.scheme.startswith("postgres") or not host or not name:
            raise Refused("the database URL must be postgresql://user:password@host:port/name", _UNUSABLE)
        sslmode = options.get("sslmode") or options.get("ssl") or ""
        return cls(host, str(port), name, unquote(parts.username or ""), unquote(parts.password or ""), sslmode)

    @contextmanager
    def environment(self, application: str) -> Iterator[dict[str, str]]:
        """Give the environment for psql and pg_dump for the length of a block, and remove the password file after it."""
        with tempfile.TemporaryDirectory() as folder:
            passfile = Path(folder) / "pgpass"
            passfile.touch(mode=0o600)
            passfile.write_text(":".join(_escape(part) for part in (self.host, self.port, self.database, self.user, self.password)) + "\n")
            env = {
                "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
                "LC_ALL": "C.UTF-8",
                "PGHOST": self.host,
                "PGPORT": self.port,
                "PGDATABASE": self.database,
                "PGUSER": self.user,
                "PGPASSFILE": str(passfile),
                "PGCONNECT_TIMEOUT": str(CONNECT_SECONDS),
                "PGAPPNAME": application,
                "PGOPTIONS": "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c lock_timeout=60s",
            }
            yield {**env, "PGSSLMODE": self.sslmode} if self.sslmode else env


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{path} can't be read: {type(error).__name__}", _UNUSABLE) from None


def _escape(part: str) -> str:
    return part.replace("\\", "\\\\").replace(":", "\\:")
