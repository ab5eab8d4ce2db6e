"""The command `migrate`: brings the schema to this image's head and asserts rights. First install and already-current are the same code.

Everything happens on one connection that holds an advisory lock, so two Jobs can't migrate at once, and a Job that follows a killed one
waits until the server has finished that one's statement. The revision reported is read under the lock: it is the truth, not the exit code.
"""

import asyncio
from dataclasses import dataclass

import asyncpg
import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from chatbot_runtime.db.compat import check_schema
from chatbot_runtime.db.engine import is_down, sqlstate
from chatbot_runtime.db.grants import render_grants
from chatbot_runtime.db.result import MigrateResult, write_result
from chatbot_runtime.logging import configure_logging
from chatbot_runtime.settings import Role, Settings

LOCK_KEY = 0x6D696772  # "migr"
LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED = "55P03", "40P01"

log = structlog.get_logger(__name__)


def run(settings: Settings) -> int:
    """Migrate, and leave a Job result whatever happens.

    Returns:
        0 when the schema suits this image, else 1.
    """
    configure_logging(settings, Role.MIGRATE)
    try:
        result = asyncio.run(migrate(settings))
    except Exception as error:  # the Job's last act is its result, also after a fault of ours
        log.exception("migrate_failed")
        result = MigrateResult("Failed", "MigrationFailed", f"unexpected {type(error).__name__}; see the log of the Job")
    write_result(result, settings.termination_log)
    return 0 if result.outcome == "Succeeded" else 1


def config() -> Config:
    """Return Alembic's configuration; there is no alembic.ini, as nothing in it would be ours to set."""
    made = Config()
    made.set_main_option("script_location", "chatbot_runtime:migrations")
    made.set_main_option("path_separator", "os")
    return made


async def migrate(settings: Settings) -> MigrateResult:
    """Migrate to head.

    Raises:
        Nothing that the database causes: every outage and refusal becomes a result.
    """
    engine = create_async_engine(
        settings.database_url.get_secret_value(),
        poolclass=NullPool,
        connect_args={
            "timeout": settings.db_connect_timeout_s,
            "server_settings": {
                "application_name": "chatbot/migrate",
                "lock_timeout": f"{settings.lock_timeout_s}s",
                "statement_timeout": f"{settings.migrate_timeout_s}s",
            },
        },
    )
    try:
        async with engine.connect() as conn:
            return await _locked(conn, settings)
    except (DBAPIError, asyncpg.PostgresError, OSError, TimeoutError) as error:
        if sqlstate(error) == LOCK_NOT_AVAILABLE:
            return MigrateResult("Failed", "LockTimeout", f"another migration held its lock for {settings.migrate_timeout_s} s")
        if not is_down(error):
            return MigrateResult("Failed", "MigrationFailed", _sentence(error))
        return MigrateResult("Failed", "DatabaseUnreachable", _sentence(error))
    finally:
        await engine.dispose()


@dataclass(frozen=True, slots=True)
class _Revisions:
    """Revisions in the order of migration; the last is this image's head."""

    known: tuple[str, ...]

    @property
    def head(self) -> str:
        return self.known[-1]

    @classmethod
    def of_image(cls) -> "_Revisions":
        script = ScriptDirectory.from_config(config())
        return cls(tuple(reversed([item.revision for item in script.walk_revisions()])))


async def _locked(conn: AsyncConnection, settings: Settings) -> MigrateResult:
    """Take the lock, migrate, read the revision, assert rights. The lock ends with the connection."""
    # Both limits would end this wait at the same moment, and only the lock's says what happened.
    await conn.exec_driver_sql(f"SET lock_timeout = '{settings.migrate_timeout_s}s'")
    await conn.exec_driver_sql("SET statement_timeout = 0")
    await conn.exec_driver_sql(f"SELECT pg_advisory_lock({LOCK_KEY})")
    await conn.exec_driver_sql(f"SET lock_timeout = '{settings.lock_timeout_s}s'")
    await conn.exec_driver_sql(f"SET statement_timeout = '{settings.migrate_timeout_s}s'")
    await conn.commit()
    revisions = _Revisions.of_image()
    before = await _revision(conn)
    if before and before not in revisions.known:
        return await _newer(conn, before)
    failure: DBAPIError | None = None
    try:
        await conn.run_sync(_upgrade)
        await conn.commit()
    except DBAPIError as error:
        await conn.rollback()
        if is_down(error):
            raise
        failure = error
    after = await _revision(conn)
    if failure is not None:
        return _failed(failure, before, after, settings)
    await _assert_rights(conn, settings)
    if before == after:
        return MigrateResult("Succeeded", "AlreadyCurrent", f"the schema is at {after}", before, after)
    return MigrateResult("Succeeded", "Migrated", f"{before or 'empty'} -> {after}", before, after)


async def _revision(conn: AsyncConnection) -> str:
    """Read the revision; empty text for an empty database."""
    revision = await conn.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())
    await conn.commit()
    return revision or ""


def _upgrade(connection: Connection) -> None:
    made = config()
    made.attributes["connection"] = connection
    command.upgrade(made, "head")


async def _newer(conn: AsyncConnection, revision: str) -> MigrateResult:
    """Judge a schema that a newer image made; it is never touched."""
    verdict = await check_schema(conn)
    if verdict.ok:
        return MigrateResult("Succeeded", "SchemaNewer", f"the schema is at {revision}, which this release tolerates", revision, revision)
    return MigrateResult("Failed", "SchemaNewer", f"the schema is at {revision}: {verdict.problem}", revision, revision)


def _failed(error: DBAPIError, before: str, after: str, settings: Settings) -> MigrateResult:
    if after != before:
        return MigrateResult("Failed", "HalfMigrated", f"stopped at {after or 'empty'}: {_sentence(error)}", before, after)
    if sqlstate(error) == LOCK_NOT_AVAILABLE:
        return MigrateResult(
            "Failed", "LockTimeout", f"a table was locked for longer than {settings.lock_timeout_s} s by somebody else", before, after
        )
    if sqlstate(error) == DEADLOCK_DETECTED:
        return MigrateResult("Failed", "LockTimeout", "somebody else and the migration waited for each other's locks", before, after)
    return MigrateResult("Failed", "MigrationFailed", _sentence(error), before, after)


async def _assert_rights(conn: AsyncConnection, settings: Settings) -> None:
    if settings.database_app_role is None:
        return
    for statement in render_grants(settings.database_app_role):
        await conn.exec_driver_sql(statement)
    await conn.commit()


def _sentence(error: BaseException) -> str:
    """Describe a failure by the server's first line, which names objects and never values (those are in its DETAIL)."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    text = str(getattr(cause, "args", [""])[0] if getattr(cause, "args", None) else "").partition("\n")[0]
    text = text.partition(": ")[2] or text
    return f"{type(cause).__name__}: {text}" if text else type(cause).__name__
