"""`bootstrap`: make an empty PostgreSQL cluster on a volume once, and say which one lies there. The only place that runs initdb."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from chatbot_postgres.layout import Layout, Refused, sync_directory
from chatbot_postgres.results import job_result, report


def run(layout: Layout) -> int:
    """Bootstrap, write the Job result, and return the exit code: 0 with `Succeeded`, 1 with `Failed`."""
    try:
        with layout.locked():
            reason, message = _ensure_cluster(layout)
            found = layout.system_identifier()
        wanted = layout.expected_identifier
        if wanted in ("", found):
            result = _result("Succeeded", reason, message)
        else:
            result = _result("Failed", "WrongDatabase", f"{layout.pgdata} holds the database {found}, not {wanted}")
        result |= {"systemIdentifier": found}
    except Refused as refused:
        result = _result("Failed", refused.reason, str(refused))
    return report(layout.termination_log, result)


def _result(outcome: str, reason: str, message: str) -> dict[str, Any]:
    return job_result("bootstrap", outcome, reason, message)


def _ensure_cluster(layout: Layout) -> tuple[str, str]:
    """Look, then make: a crash before the rename leaves only `<pgdata>.new`, which the next run removes."""
    if layout.has_cluster():
        return "AlreadyInitialized", f"{layout.pgdata} holds a cluster"
    if layout.pgdata.exists() and any(layout.pgdata.iterdir()):
        raise Refused(f"{layout.pgdata} holds files but no cluster; nothing was changed", "DirectoryNotEmpty")
    if layout.expected_identifier:
        raise Refused(f"{layout.pgdata} is empty, but must hold the database {layout.expected_identifier}", "DatabaseMissing")
    unfinished = layout.pgdata.with_name(layout.pgdata.name + ".new")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    _initdb(layout, unfinished)
    unfinished.rename(layout.pgdata)
    sync_directory(layout.volume)
    return "Initialized", f"{layout.pgdata} was made"


def _initdb(layout: Layout, target: Path) -> None:
    """Run initdb, which syncs what it wrote. The superuser's password goes by file, never by argument.

    Raises:
        Refused: with the last lines that initdb printed.
    """
    layout.password("postgres-password")
    command = [
        "initdb", "--pgdata", str(target), "--username", "postgres", "--pwfile", str(layout.secrets / "postgres-password"),
        "--auth-local", "peer", "--auth-host", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8", "--data-checksums",
    ]  # fmt: skip
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise Refused(f"initdb failed: {' '.join(done.stdout.strip().splitlines()[-3:])[:500]}")
