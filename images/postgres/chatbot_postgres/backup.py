"""`backup`: dump the database from one snapshot, encrypt it on its way, store it, and commit it with a manifest. Safe to run again."""

import hashlib
import os
import traceback
from collections.abc import Mapping
from typing import Any

from chatbot_postgres.connection import Connection
from chatbot_postgres.layout import Refused
from chatbot_postgres.pipeline import CHUNK, Program, judge, limited, running
from chatbot_postgres.place import Place, fingerprint, refusing_full_disks
from chatbot_postgres.results import FAULTS, fits, job_result, report
from chatbot_postgres.snapshot import Snapshot, judge_refusal

TOLD_TABLES = 30
"""Tables in the result at most; the manifest has all."""


def run(place: Place) -> int:
    """Back up, write the Job result, and return the exit code: 0 with `Succeeded`, 1 with `Failed`."""
    try:
        with limited(place.timeout, "the backup"), place.locked():
            found = place.read_manifest()
            manifest, reason = (found, "AlreadyStored") if found is not None else (_store(place), "BackupStored")
        result = _tell(reason, manifest["archive"])
    except Refused as refused:
        result = job_result("backup", "Failed", refused.reason, str(refused))
    except FAULTS as fault:
        result = job_result("backup", "Failed", "BackupFailed", f"a fault of the Job itself ({type(fault).__name__}); its log says more")
        traceback.print_exception(fault)
    return report(place.termination_log, result)


def _tell(reason: str, archive: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result with the largest tables, as many as fit: one that is cut off can't be read at all."""
    tables = list(archive.get("tables", []))[:TOLD_TABLES]
    while True:
        message = f"{archive['sizeBytes']} bytes were stored"
        result = job_result("backup", "Succeeded", reason, message, archive={**archive, "tables": tables})
        if fits(result) or not tables:
            return result
        tables = tables[: len(tables) // 2]


def _store(place: Place) -> dict[str, Any]:
    recipient = _recipient(place)
    place.clear()
    try:
        with Connection.from_env().environment("chatbot-backup") as env, Snapshot(env) as snapshot:
            facts, tables = snapshot.facts(), snapshot.tables()
            size, digest = _dump(place, env, snapshot.name)
        archive = {
            "objectKey": place.object_key,
            "sizeBytes": size,
            "sha256": digest,
            "keyFingerprint": fingerprint(recipient),
            **facts,
            "tables": tables,
        }
        manifest = {"version": 1, "method": "Logical", "format": "pg_dump custom, age", "archive": archive}
        place.commit(manifest)
    except (Refused, *FAULTS):
        if not place.manifest.exists():
            place.clear()
        raise
    return manifest


def _recipient(place: Place) -> str:
    try:
        found = place.recipient_file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        found = ""
    if not found.startswith("age1"):
        raise Refused("the key of backups holds no age recipient", "KeyMissing")
    return found


def _dump(place: Place, env: dict[str, str], snapshot: str) -> tuple[int, str]:
    """Write the encrypted dump and return its size and SHA-256; no plain byte ever reaches the target.

    Raises:
        Refused: a program failed, or the target can't take it.
    """
    dump = Program(["pg_dump", "-Fc", "--no-password", "--lock-wait-timeout=60s", f"--snapshot={snapshot}"], env=env)
    age = Program(["age", "--encrypt", "--recipients-file", str(place.recipient_file)], stdin=dump.output)
    dump.output.close()
    digest, size = hashlib.sha256(), 0
    with running(dump, age), refusing_full_disks():
        with place.partial.open("wb") as out:
            while chunk := age.output.read(CHUNK):
                out.write(chunk)
                digest.update(chunk)
                size += len(chunk)
            out.flush()
            os.fsync(out.fileno())
        judge(age, "age failed", "BackupFailed")
        dump.wait()
        judge(dump, "pg_dump failed", judge_refusal(dump.told()))
    return size, digest.hexdigest()
