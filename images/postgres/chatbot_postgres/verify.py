"""`backup-verify`: read a stored backup to its last byte: size, hash, decryption, and whether pg_restore understands all of it."""

import hashlib
import subprocess
import traceback
from collections.abc import Mapping
from typing import Any

from chatbot_postgres.layout import Refused
from chatbot_postgres.pipeline import CHUNK, Program, judge, limited, running
from chatbot_postgres.place import Place, fingerprint
from chatbot_postgres.results import FAULTS, job_result, report


def run(place: Place) -> int:
    """Verify, write the Job result, and return the exit code: 0 with `Succeeded`, 1 with `Failed`. Changes nothing on the target."""
    try:
        with limited(place.timeout, "reading the backup back"):
            size = _verify(place)
        result = job_result("backup-verify", "Succeeded", "ReadCompletely", f"all {size} bytes were read, decrypted and understood")
    except Refused as refused:
        result = job_result("backup-verify", "Failed", refused.reason, str(refused))
    except FAULTS as fault:
        result = job_result(
            "backup-verify", "Failed", "ProofFailed", f"a fault of the Job itself ({type(fault).__name__}); its log says more"
        )
        traceback.print_exception(fault)
    return report(place.termination_log, result)


def _verify(place: Place) -> int:
    manifest = place.read_manifest()
    if manifest is None:
        raise Refused(f"there is no manifest in {place.object_key}", "ManifestMissing")
    archive = manifest["archive"]
    _check_origin(place, archive)
    _check_key(place, archive)
    try:
        size = place.archive.stat().st_size
    except FileNotFoundError:
        raise Refused(f"there is no archive in {place.object_key}", "ArchiveMissing") from None
    except OSError as error:
        raise Refused(f"the archive can't be read: {error.strerror}", "TargetUnavailable") from None
    if size != archive.get("sizeBytes"):
        raise Refused(f"the archive has {size} bytes, not {archive.get('sizeBytes')} as its manifest says", "SizeMismatch")
    _read(place, archive)
    return size


def _check_origin(place: Place, archive: Mapping[str, Any]) -> None:
    """Compare the manifest with what the maker of the archive reported: both files may have been exchanged together.

    Raises:
        Refused: with HashMismatch or SizeMismatch.
    """
    if archive.get("objectKey") != place.object_key or place.expected_sha256 not in ("", archive.get("sha256")):
        raise Refused("the manifest describes another archive than the one that was stored here", "HashMismatch")
    if place.expected_size not in ("", str(archive.get("sizeBytes"))):
        raise Refused(f"the manifest speaks of {archive.get('sizeBytes')} bytes, and {place.expected_size} were stored", "SizeMismatch")


def _check_key(place: Place, archive: Mapping[str, Any]) -> None:
    """Compare the identity with the recipient that the archive was encrypted for.

    Raises:
        Refused: with KeyMissing or KeyMismatch.
    """
    command = ["age-keygen", "-y", str(place.identity_file)]
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    recipient = done.stdout.strip()
    if done.returncode or not recipient.startswith("age1"):
        raise Refused("the key of backups holds no age identity", "KeyMissing")
    if fingerprint(recipient) != archive.get("keyFingerprint"):
        wanted = f"{archive.get('keyFingerprint')}, and the key at hand is {fingerprint(recipient)}"
        raise Refused(f"the archive was encrypted for the key {wanted}", "KeyMismatch")


def _read(place: Place, archive: Mapping[str, Any]) -> None:
    """Read everything once: hash it, decrypt it, and let pg_restore go through all of it.

    Raises:
        Refused: what is stored is not what was written.
    """
    age = Program(["age", "--decrypt", "--identity", str(place.identity_file)], stdin=subprocess.PIPE)
    restore = Program(["pg_restore", "-f", "/dev/null"], stdin=age.output)
    age.output.close()
    digest = hashlib.sha256()
    with running(age, restore):
        try:
            with place.archive.open("rb") as stored:
                while chunk := stored.read(CHUNK):
                    digest.update(chunk)
                    _feed(age, chunk)
        except OSError as error:
            raise Refused(f"the archive can't be read: {error.strerror}", "TargetUnavailable") from None
        _feed(age, b"")
        if digest.hexdigest() != archive.get("sha256"):
            raise Refused("the archive is not the one that was written: its SHA-256 differs from the manifest's", "HashMismatch")
        judge(age, "the archive can't be decrypted", "DecryptFailed")
        judge(restore, "pg_restore does not understand the archive", "ArchiveUnreadable")


def _feed(age: Program, chunk: bytes) -> None:
    """Hand bytes on, or close the pipe at their end. A program that ended early is noticed by its exit code; hashing goes on."""
    stdin = age.process.stdin
    if stdin is None or stdin.closed:
        return
    try:
        stdin.write(chunk)
        if not chunk:
            stdin.close()
    except BrokenPipeError:
        pass
