"""The `migrate` command on a real server: what it does, and what it says it did. Needs PostgreSQL."""

import asyncio
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from chatbot_runtime.db import schema_auth, schema_queue  # noqa: F401  fill the metadata
from chatbot_runtime.db.metadata import metadata
from chatbot_runtime.db.migrate import LOCK_KEY, config
from tests.component.servers import APP, OWNER, Database, clean_env

pytestmark = pytest.mark.component

HEAD = "0003"


def migrate(database: Database, directory: Path, **extra: str) -> tuple[int, dict[str, Any]]:
    """Run the command; return its exit code and its result."""
    result = directory / "termination-log"
    result.unlink(missing_ok=True)
    env = clean_env({**database.env(OWNER), "DATABASE_APP_ROLE": APP, "TERMINATION_LOG": str(result), **extra})
    done = subprocess.run([sys.executable, "-m", "chatbot_runtime", "migrate"], env=env, check=False, capture_output=True, timeout=120)
    raw = result.read_bytes()
    assert len(raw) <= 4096
    assert database.server.passwords[OWNER].encode() not in raw + done.stdout + done.stderr
    return done.returncode, json.loads(raw)


def owner(database: Database) -> AsyncEngine:
    return create_async_engine(database.url(OWNER).replace("postgresql://", "postgresql+asyncpg://"), poolclass=NullPool)


async def alembic(database: Database, step: str, revision: str) -> None:
    """Go to a revision as the owner, with the migrations of this image."""

    def go(connection: Connection) -> None:
        made = config()
        made.attributes["connection"] = connection
        getattr(command, step)(made, revision)

    engine = owner(database)
    async with engine.connect() as conn:
        await conn.run_sync(go)
        await conn.commit()


def dump(database: Database) -> list[str]:
    """Describe every column, constraint, index, function and trigger."""
    return database.sql(
        "SELECT concat_ws('|', 'column', table_name, column_name, data_type, is_nullable, column_default) FROM information_schema.columns"
        " WHERE table_schema = 'public' AND table_name <> 'alembic_version'"
        " UNION ALL SELECT concat_ws('|', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint"
        " WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'alembic_version'"
        " UNION ALL SELECT concat_ws('|', 'index', indexdef) FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
        " UNION ALL SELECT concat_ws('|', 'function', proname, prosrc) FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        " UNION ALL SELECT concat_ws('|', 'trigger', pg_get_triggerdef(oid)) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1"
    )


def test_first_install_then_already_current(empty_database: Database, tmp_path: Path) -> None:
    code, result = migrate(empty_database, tmp_path)
    assert (code, result["outcome"], result["reason"]) == (0, "Succeeded", "Migrated")
    assert (result["version"], result["job"], result["revisionBefore"], result["revision"]) == (1, "migrate", "", HEAD)
    code, result = migrate(empty_database, tmp_path)
    assert (code, result["reason"], result["revisionBefore"], result["revision"]) == (0, "AlreadyCurrent", HEAD, HEAD)
    assert empty_database.sql("SELECT version, compatible_since FROM schema_compat") == ["3|1"]


async def test_tables_in_code_equal_those_of_the_migrations(database: Database) -> None:
    def differences(connection: Connection) -> list[Any]:
        found = compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata)
        # Comments live in the code, where they are read.
        return [item for item in found if not (isinstance(item, list) and all(change[0] == "modify_comment" for change in item))]

    async with owner(database).connect() as conn:
        assert await conn.run_sync(differences) == []


async def test_each_downgrade_undoes_its_upgrade(empty_database: Database) -> None:
    dumps = [dump(empty_database)]
    for revision in ("0001", "0002", "0003"):
        await alembic(empty_database, "upgrade", revision)
        dumps.append(dump(empty_database))
    assert len({len(item) for item in dumps}) == 4
    for before in reversed(dumps[:-1]):
        await alembic(empty_database, "downgrade", "-1")
        assert dump(empty_database) == before


async def test_a_fresh_instance_has_something_to_say(database: Database) -> None:
    assert set(database.sql("SELECT DISTINCT locale FROM bot_intents")) == {"es", "en"}
    assert database.sql("SELECT count(DISTINCT key), count(*) FROM bot_texts") == ["4|8"]


def test_two_at_once_do_it_once(empty_database: Database, tmp_path: Path) -> None:
    results: list[tuple[int, dict[str, Any]]] = []
    directories = [tmp_path / str(number) for number in range(2)]
    for directory in directories:
        directory.mkdir()
    threads = [threading.Thread(target=lambda item=item: results.append(migrate(empty_database, item))) for item in directories]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result["reason"] for _, result in results) == ["AlreadyCurrent", "Migrated"]
    assert {result["revision"] for _, result in results} == {HEAD}


async def test_a_running_migration_is_waited_for_and_then_reported(empty_database: Database, tmp_path: Path) -> None:
    async with owner(empty_database).connect() as conn:
        await conn.exec_driver_sql(f"SELECT pg_advisory_lock({LOCK_KEY})")
        code, result = await asyncio.to_thread(migrate, empty_database, tmp_path, MIGRATE_TIMEOUT_S="1")
    assert (code, result["outcome"], result["reason"]) == (1, "Failed", "LockTimeout")


async def test_a_locked_table_fails_within_its_time_and_changes_nothing(empty_database: Database, tmp_path: Path) -> None:
    await alembic(empty_database, "upgrade", "0001")
    before = dump(empty_database)
    async with owner(empty_database).connect() as conn:
        await conn.exec_driver_sql("LOCK TABLE schema_compat IN ACCESS EXCLUSIVE MODE")
        code, result = await asyncio.to_thread(migrate, empty_database, tmp_path, LOCK_TIMEOUT_S="1")
    assert (code, result["reason"], result["revisionBefore"], result["revision"]) == (1, "LockTimeout", "0001", "0001")
    assert dump(empty_database) == before


def test_a_failure_in_the_middle_says_where_it_stopped(empty_database: Database, tmp_path: Path) -> None:
    empty_database.sql(f"CREATE TABLE bot_texts (x int); ALTER TABLE bot_texts OWNER TO {OWNER}")
    code, result = migrate(empty_database, tmp_path)
    assert (code, result["reason"], result["revisionBefore"], result["revision"]) == (1, "HalfMigrated", "", "0002")
    assert "bot_texts" in result["message"]
    empty_database.sql("DROP TABLE bot_texts")
    code, result = migrate(empty_database, tmp_path)
    assert (code, result["reason"], result["revision"]) == (0, "Migrated", HEAD)


def test_a_failure_at_once_says_why(empty_database: Database, tmp_path: Path) -> None:
    empty_database.sql(f"CREATE TABLE users (x int); ALTER TABLE users OWNER TO {OWNER}")
    code, result = migrate(empty_database, tmp_path)
    assert (code, result["reason"], result["revision"]) == (1, "MigrationFailed", "")
    assert "users" in result["message"]


@pytest.mark.parametrize(("since", "code"), [(3, 0), (9, 1)])
def test_a_newer_schema_is_judged_and_never_touched(database: Database, tmp_path: Path, since: int, code: int) -> None:
    database.sql("UPDATE alembic_version SET version_num = '0009'; UPDATE schema_compat SET version = 9")
    database.sql(f"UPDATE schema_compat SET compatible_since = {since}")  # noqa: S608  a number of this test
    before = dump(database)
    exit_code, result = migrate(database, tmp_path)
    assert (exit_code, result["reason"], result["revision"]) == (code, "SchemaNewer", "0009")
    assert dump(database) == before


def test_an_unreachable_database_and_a_wrong_password(empty_database: Database, tmp_path: Path) -> None:
    code, result = migrate(empty_database, tmp_path, DATABASE_PORT="1")
    assert (code, result["reason"]) == (1, "DatabaseUnreachable")
    code, result = migrate(empty_database, tmp_path, DATABASE_PASSWORD="wrong-7c1f9d3b")
    assert (code, result["reason"]) == (1, "DatabaseUnreachable")
    assert "wrong-7c1f9d3b" not in json.dumps(result)


def test_wrong_settings_leave_a_result_too(empty_database: Database, tmp_path: Path) -> None:
    code, result = migrate(empty_database, tmp_path, LOCK_TIMEOUT_S="soon")
    assert (code, result["outcome"], result["reason"]) == (1, "Failed", "MigrationFailed")
    assert "LOCK_TIMEOUT_S" in result["message"]


async def test_the_runtime_may_do_its_work_and_no_more(database: Database, engine: AsyncEngine) -> None:
    refused = [
        "CREATE TABLE x (y int)", "DELETE FROM audit_events", "UPDATE audit_events SET actor = 'x'", "UPDATE audit_seals SET seq = 9",
        "DELETE FROM users", "TRUNCATE messages", "UPDATE schema_compat SET version = 9", "UPDATE alembic_version SET version_num = 'x'",
        "DROP TABLE messages", "ALTER TABLE messages DISABLE TRIGGER ALL",
    ]  # fmt: skip
    for statement in refused:
        with pytest.raises(sa.exc.ProgrammingError):
            async with engine.begin() as conn:
                await conn.execute(sa.text(statement))
    assert database.sql("SELECT count(*) FROM pg_tables WHERE tableowner = 'chatbot_app'") == ["0"]
