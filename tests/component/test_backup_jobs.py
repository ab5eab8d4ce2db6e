"""Needs PostgreSQL's programs and age: what the backup Jobs do: store, commit, prove, and notice however an archive is bad."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.component.servers import OWNER, Database, _unprivileged, postgres_bin

CODE = Path(__file__).parents[2] / "images/postgres"
OBJECT_KEY = "uid-1/logical/uid-2"


@dataclass
class Target:
    """A volume of backups, a key, and the Jobs' environment."""

    root: Path
    database: Database

    @property
    def directory(self) -> Path:
        return self.root / "backups" / OBJECT_KEY

    @property
    def password(self) -> str:
        return self.database.server.passwords[OWNER]

    @property
    def archive(self) -> Path:
        return self.directory / "archive.age"

    def run(self, command: str, **env: str) -> dict[str, Any]:
        """Run a Job to its end and return what it reported."""
        log = self.root / "termination-log"
        log.unlink(missing_ok=True)
        common = {
            "PATH": f"{postgres_bin()}:/usr/bin:/bin", "PYTHONPATH": str(self.root / "code"), "LANG": "C.UTF-8",
            "BACKUP_DIR": str(self.root / "backups"), "BACKUP_OBJECT_KEY": OBJECT_KEY, "TERMINATION_LOG": str(log),
            "BACKUP_RECIPIENT_FILE": str(self.root / "recipient"), "BACKUP_IDENTITY_FILE": str(self.root / "identity"),
            "DATABASE_URL_FILE": str(self.root / "url"),
        }  # fmt: skip
        done = subprocess.run(
            ["/usr/bin/python3", "-m", "chatbot_postgres", command],
            check=False, env=common | env, cwd=self.root, capture_output=True, text=True, timeout=120,
            user=_unprivileged(), extra_groups=[],
        )  # fmt: skip
        result: dict[str, Any] = json.loads(log.read_text())
        assert done.returncode == (0 if result["outcome"] == "Succeeded" else 1), done.stderr
        assert self.password not in done.stdout + done.stderr
        return result

    def own(self, path: Path) -> None:
        if user := _unprivileged():
            shutil.chown(path, user)

    def new_key(self) -> None:
        for name in ("identity", "recipient"):
            (self.root / name).unlink(missing_ok=True)
        subprocess.run(["age-keygen", "-o", self.root / "identity"], check=True, capture_output=True)
        made = subprocess.run(["age-keygen", "-y", self.root / "identity"], check=True, capture_output=True, text=True).stdout
        (self.root / "recipient").write_text(made)
        for name in ("identity", "recipient"):
            self.own(self.root / name)

    def claim(self) -> None:
        """Let the manifest describe the archive as it is now, as somebody would who tampers with both."""
        manifest = json.loads((self.directory / "manifest.json").read_text())
        content = self.archive.read_bytes()
        manifest["archive"] |= {"sizeBytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        (self.directory / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def target(database: Database) -> Iterator[Target]:
    root = Path(tempfile.mkdtemp(prefix="chatbot-backup-", dir="/tmp"))
    root.chmod(0o755)
    made = Target(root, database)
    shutil.copytree(CODE / "chatbot_postgres", root / "code/chatbot_postgres", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "backups").mkdir()
    (root / "url").write_text(database.url(OWNER) + "\n")
    made.new_key()
    for path in (root, root / "backups", root / "url"):
        made.own(path)
    database.sql(f"SET ROLE {OWNER}; CREATE TABLE people (name text)")
    database.sql("INSERT INTO people SELECT md5(i::text) FROM generate_series(1, 20000) i")
    yield made
    shutil.rmtree(root)


def test_a_backup_is_stored_with_a_manifest_of_the_same_snapshot_and_proven(target: Target) -> None:
    made = target.run("backup")
    assert (made["outcome"], made["reason"]) == ("Succeeded", "BackupStored")
    archive = made["archive"]
    assert archive["objectKey"] == OBJECT_KEY
    assert archive["sizeBytes"] == target.archive.stat().st_size
    assert archive["sha256"] == hashlib.sha256(target.archive.read_bytes()).hexdigest()
    assert {"name": "public.people", "rows": 20000} in archive["tables"]
    assert archive["systemIdentifier"].isdecimal()
    assert archive["schemaRevision"]
    assert target.run("backup-verify")["reason"] == "ReadCompletely"
    assert {path.name for path in target.directory.iterdir()} == {"archive.age", "manifest.json"}


def test_no_plain_byte_reaches_the_target_and_the_key_opens_it(target: Target) -> None:
    target.database.sql("INSERT INTO people VALUES ('a very plain secret text')")
    target.run("backup")
    stored = target.archive.read_bytes()
    assert stored.startswith(b"age-encryption.org/v1")
    assert b"plain secret" not in stored
    assert b"PGDMP" not in stored
    opened = subprocess.run(["age", "-d", "-i", target.root / "identity", target.archive], check=True, capture_output=True).stdout
    text = subprocess.run([postgres_bin() / "pg_restore", "-f", "-"], input=opened, check=True, capture_output=True).stdout
    assert b"a very plain secret text" in text


def test_running_it_again_stores_nothing_anew_and_says_the_same(target: Target) -> None:
    first = target.run("backup")
    target.database.sql("DELETE FROM people")
    again = target.run("backup")
    assert again["reason"] == "AlreadyStored"
    assert again["archive"] == first["archive"]


def test_a_result_is_never_longer_than_the_kubelet_keeps(target: Target) -> None:
    wide = " ".join(f"CREATE TABLE {letter * 60}{number} ();" for number, letter in enumerate("abcdefghijklmnopqrstuvwxyz" * 2))
    target.database.sql(f"SET ROLE {OWNER}; CREATE SCHEMA {'s' * 60}; SET search_path TO {'s' * 60}; {wide}")
    made = target.run("backup")
    assert made["archive"]["tables"][0] == {"name": "public.people", "rows": 20000}
    assert len((target.root / "termination-log").read_bytes()) <= 4096
    assert len(json.loads((target.directory / "manifest.json").read_text())["archive"]["tables"]) > 52


def test_two_attempts_at_once_do_not_write_the_same_backup(target: Target) -> None:
    target.directory.mkdir(parents=True)
    for path in (target.directory, *target.directory.parents[:2]):
        target.own(path)
    handle = os.open(target.directory, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    assert target.run("backup")["reason"] == "TargetBusy"
    os.close(handle)
    assert target.run("backup")["reason"] == "BackupStored"


def test_what_a_killed_attempt_left_is_no_backup_and_is_made_anew(target: Target) -> None:
    target.run("backup")
    (target.directory / "manifest.json").unlink()  # killed between the archive and its commit
    (target.directory / "archive.age.partial").write_bytes(b"half")
    assert target.run("backup-verify")["reason"] == "ManifestMissing"
    assert target.run("backup")["reason"] == "BackupStored"
    assert target.run("backup-verify")["reason"] == "ReadCompletely"
    assert not (target.directory / "archive.age.partial").exists()


@pytest.mark.parametrize("percent", [0, 20, 60, 99])
def test_an_archive_that_was_cut_is_never_verified_even_beside_a_manifest_that_agrees(target: Target, percent: int) -> None:
    target.run("backup")
    content = target.archive.read_bytes()
    target.archive.write_bytes(content[: len(content) * percent // 100])
    assert target.run("backup-verify")["reason"] == "SizeMismatch"
    target.claim()
    assert target.run("backup-verify")["reason"] == "DecryptFailed"


@pytest.mark.parametrize("where", [0.0, 0.5, 1.0], ids=["head", "middle", "end"])
def test_a_flipped_byte_is_found_wherever_it_is(target: Target, where: float) -> None:
    target.run("backup")
    content = bytearray(target.archive.read_bytes())
    content[min(len(content) - 1, int(len(content) * where))] ^= 1
    target.archive.write_bytes(content)
    assert target.run("backup-verify")["reason"] == "HashMismatch"
    target.claim()
    assert target.run("backup-verify")["reason"] == "DecryptFailed"


def test_an_archive_that_decrypts_to_something_else_is_not_understood(target: Target) -> None:
    target.run("backup")
    made = subprocess.run(["age", "-R", target.root / "recipient"], input=b"PGDMP and no more", check=True, capture_output=True).stdout
    target.archive.write_bytes(made)
    target.claim()
    assert target.run("backup-verify")["reason"] == "ArchiveUnreadable"


def test_both_files_exchanged_together_are_not_what_was_stored(target: Target) -> None:
    told = target.run("backup")["archive"]
    expected = {"BACKUP_EXPECTED_SHA256": told["sha256"], "BACKUP_EXPECTED_SIZE": str(told["sizeBytes"])}
    assert target.run("backup-verify", **expected)["reason"] == "ReadCompletely"
    shutil.rmtree(target.directory)
    target.database.sql("DELETE FROM people")
    target.run("backup")
    assert target.run("backup-verify")["reason"] == "ReadCompletely"
    assert target.run("backup-verify", **expected)["reason"] == "HashMismatch"


@pytest.mark.parametrize(("program", "command"), [("age", "backup"), ("pg_dump", "backup"), ("age", "backup-verify")])
def test_a_program_that_was_killed_is_no_proof_of_a_bad_archive(target: Target, program: str, command: str) -> None:
    if command == "backup-verify":
        target.run("backup")
    fake = target.root / "bin"
    fake.mkdir()
    (fake / program).write_text("#!/bin/sh\nkill -9 $$\n")
    (fake / program).chmod(0o755)
    result = target.run(command, PATH=f"{fake}:{postgres_bin()}:/usr/bin:/bin")
    assert result["reason"] == "Killed"
    assert not list(target.directory.glob("*.partial"))


def test_warnings_of_the_server_are_no_answers(target: Target) -> None:
    target.database.sql(f"ALTER ROLE {OWNER} SET client_min_messages = 'debug5'")
    try:
        assert target.run("backup")["reason"] == "BackupStored"
    finally:
        target.database.sql(f"ALTER ROLE {OWNER} RESET client_min_messages")


def test_options_of_the_url_win_as_they_do_for_the_runtime(target: Target) -> None:
    url = target.database.url(OWNER)
    elsewhere = url.replace("@127.0.0.1:", "@nowhere.invalid:")
    port = url.rpartition(":")[2].partition("/")[0]
    (target.root / "url").write_text(f"{elsewhere}?host=127.0.0.1&port={port}")
    assert target.run("backup")["reason"] == "BackupStored"


def test_the_wrong_key_and_missing_parts_have_their_names(target: Target) -> None:
    target.run("backup")
    target.new_key()
    assert target.run("backup-verify")["reason"] == "KeyMismatch"
    (target.root / "identity").write_text("nonsense")
    assert target.run("backup-verify")["reason"] == "KeyMissing"
    target.new_key()
    shutil.rmtree(target.directory)
    target.run("backup")
    target.archive.unlink()
    assert target.run("backup-verify")["reason"] == "ArchiveMissing"
    (target.directory / "manifest.json").write_text("{")
    assert target.run("backup-verify")["reason"] == "ManifestUnreadable"


def test_a_database_that_is_away_or_refuses_leaves_nothing_on_the_target(target: Target) -> None:
    url = target.database.url(OWNER)
    (target.root / "url").write_text("postgresql://chatbot:secret@127.0.0.1:1/chatbot")
    away = target.run("backup")
    assert away["reason"] == "DatabaseUnreachable"
    assert "secret" not in json.dumps(away)
    (target.root / "url").write_text(url.replace(target.password, "wrong"))
    assert target.run("backup")["reason"] == "DatabaseRefuses"
    (target.root / "url").write_text("mysql://nonsense")
    assert target.run("backup")["reason"] == "SettingsUnusable"
    assert not list(target.directory.glob("archive*"))


def test_a_recipient_that_is_none_is_refused_before_the_database_is_asked(target: Target) -> None:
    (target.root / "recipient").write_text("AGE-SECRET-KEY-1")
    result = target.run("backup", DATABASE_URL_FILE="/nonexistent")
    assert result["reason"] == "KeyMissing"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small volume")
def test_a_full_target_is_told_and_an_earlier_backup_stays(target: Target) -> None:
    target.run("backup")
    small = target.root / "small"
    small.mkdir()
    # In a mount namespace of its own: the machine's mounts are never changed.
    script = (
        f"mount -t tmpfs -o size=64k none {small} && chmod 777 {small} && "
        f"setpriv --reuid=$OWNER --regid=$OWNER --clear-groups /usr/bin/python3 -m chatbot_postgres backup; ls -R {small}"
    )
    log = target.root / "full-log"
    log.write_text("")
    target.own(log)
    env = {
        "PATH": f"{postgres_bin()}:/usr/bin:/bin:/usr/sbin:/sbin", "PYTHONPATH": str(target.root / "code"),
        "OWNER": str(_unprivileged() or "0"),
        "BACKUP_DIR": str(small), "BACKUP_OBJECT_KEY": OBJECT_KEY, "TERMINATION_LOG": str(log),
        "BACKUP_RECIPIENT_FILE": str(target.root / "recipient"), "DATABASE_URL_FILE": str(target.root / "url"),
    }  # fmt: skip
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], check=False, env=env, capture_output=True, text=True, timeout=60)
    result = json.loads(log.read_text() or "{}")
    assert result.get("reason") == "TargetFull", (done.stdout, done.stderr)
    assert "archive" not in done.stdout.rpartition("logical")[2], "what does not fit is taken away"
    assert target.run("backup-verify")["reason"] == "ReadCompletely"
