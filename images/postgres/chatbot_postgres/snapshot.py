"""Holds one snapshot of the database open and asks it: what pg_dump stores and what the manifest says are of the same moment."""

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from chatbot_postgres.layout import Refused

_END = "--end--"
_NAME = re.compile(r"[0-9A-F]+-[0-9A-F]+-[0-9]+")
_TABLES = """
SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' ORDER BY 1;
"""
_FACTS: Mapping[str, str] = {
    "postgresVersion": "SELECT current_setting('server_version');",
    "systemIdentifier": "SELECT system_identifier FROM pg_control_system();",
    "snapshotTime": "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"');",
}
_REVISION = "SELECT CASE WHEN to_regclass('public.alembic_version') IS NULL THEN 'no' ELSE 'yes' END;"


class Snapshot:
    """A read-only transaction in a psql of its own, exported for pg_dump to join."""

    def __init__(self, env: Mapping[str, str]) -> None:
        """Prepare; `env` tells psql where to connect."""
        self._env = env
        self._psql: subprocess.Popen[str] | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed at the end of the block
        """Apart from the answers: a server may warn of anything at any time."""
        self.name = ""

    def __enter__(self) -> Self:
        self._psql = subprocess.Popen(
            ["psql", "-XAtqw", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=terse", "-v", "SHOW_CONTEXT=never", "-f", "-"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=self._env,
        )  # fmt: skip
        try:
            self.name = self._export()
        except Refused:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    def _export(self) -> str:
        name = self._one("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT pg_export_snapshot();")
        if not _NAME.fullmatch(name):
            raise Refused("the database gave a snapshot of a form that is not known", "BackupFailed")
        return name

    def facts(self) -> dict[str, Any]:
        """Return version, identity and time of what is dumped, and the revision of its schema, empty without one."""
        found = {name: self._one(question) for name, question in _FACTS.items()}
        revision = ""
        if self.ask(_REVISION) == ["yes"]:
            revision = ",".join(self.ask("SELECT version_num FROM public.alembic_version ORDER BY 1;"))
        return {**found, "schemaRevision": revision}

    def tables(self) -> list[dict[str, Any]]:
        """Return the number of rows of every table, most rows first."""
        counts = {name: int(self._one(f"SELECT count(*) FROM {name};")) for name in self.ask(_TABLES)}  # noqa: S608  quoted by the server
        return [{"name": name, "rows": rows} for name, rows in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]

    def _one(self, question: str) -> str:
        answer = self.ask(question)
        if len(answer) != 1:
            raise Refused(f"the database answered with {len(answer)} lines where one was asked for", "BackupFailed")
        return answer[0]

    def ask(self, question: str) -> list[str]:
        """Return the lines that a question is answered with.

        Raises:
            Refused: the database can't be reached, or refuses; with psql's message, which holds no statement.
        """
        psql = self._psql
        if psql is None or psql.stdin is None or psql.stdout is None:
            raise Refused("the snapshot is not open", "BackupFailed")
        with contextlib.suppress(BrokenPipeError):  # it ended; what it printed says why
            psql.stdin.write(f"{question}\n\\echo {_END}\n")
            psql.stdin.flush()
        lines: list[str] = []
        for line in psql.stdout:
            if line.rstrip("\n") == _END:
                return lines
            lines.append(line.rstrip("\n"))
        self._errors.seek(0)
        told = " ".join(self._errors.read().decode(errors="replace").strip().splitlines()[-3:])[:400]
        raise Refused(f"the database can't be read: {told}", judge_refusal(told))

    def _end(self) -> None:
        self._errors.close()
        if self._psql is not None:
            self._psql.kill()
            self._psql.wait()
            for stream in (self._psql.stdin, self._psql.stdout):
                if stream is not None:
                    with contextlib.suppress(BrokenPipeError):
                        stream.close()
            self._psql = None


def judge_refusal(told: str) -> str:
    """Return the reason that a message of libpq or of the server means: one that may pass by itself, or one that needs a person."""
    text = told.lower()
    if "permission denied" in text or "must be owner" in text:
        return "DatabaseRefuses"
    if "password authentication failed" in text or "does not exist" in text:
        return "DatabaseRefuses"
    unreachable = ("connection", "could not", "starting up", "shutting down", "timeout", "terminating", "recovery mode", "too many clients")
    return "DatabaseUnreachable" if any(part in text for part in unreachable) else "BackupFailed"
