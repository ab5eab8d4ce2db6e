"""The connection pool, and transactions whose failures say whether the database is down or the statement was wrong."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any, Final, Literal

import asyncpg
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from chatbot_runtime import metrics
from chatbot_runtime.errors import DatabaseDown
from chatbot_runtime.settings import Settings

Op = Literal["ingest", "picture", "probe", "statuses"]
"""Kinds of work whose time is measured; claims, turns and sends have metrics of their own."""

SPARE_S = 2.0
"""The client gives up this much later than the server would, so that normally the server's own error is seen."""

UNREACHABLE: Final = "DatabaseUnreachable"
READ_ONLY: Final = "DatabaseReadOnly"
REFUSES_RIGHTS: Final = "DatabaseRefusesRights"

_DOWN: Final[Mapping[str, str]] = {
    "08": UNREACHABLE,
    "53": UNREACHABLE,
    "57P": UNREACHABLE,
    "28": "DatabaseRefusesLogin",
    "3D000": "DatabaseMissing",
    "25006": READ_ONLY,
}
"""SQLSTATEs, by their beginnings, of a server that can't serve us now: connection, resources, shutdown or crash; and what people mend."""

_NO_RIGHT: Final = "42501"
"""SQLSTATE of a role that lacks a right: to a command that serves like a wrong password, to `migrate` a failure."""

_TO_DO: Final[Mapping[str, str]] = {
    UNREACHABLE: "the database can't serve now",
    "DatabaseRefusesLogin": "the database refuses this user or password: compare the Secret with the role, and see pg_hba.conf",
    "DatabaseMissing": "the server has no database of this name: check the name, or restore the database",
    READ_ONLY: "the database takes no writes: it is a standby, or default_transaction_read_only is on",
    REFUSES_RIGHTS: "the database's role lacks a right: as the owner of the tables, "
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO it",
}

_AGAIN = ("40", "57014", "55P03", "25P03", "0A000")
"""SQLSTATEs of work that a repeat may do: deadlock, time limits, and a statement that was planned before a migration."""


def create_engine(settings: Settings) -> AsyncEngine:
    """Make the pool of one process. Connects to nothing yet.

    There is no ping before use: it would cost a round trip a webhook. After a restart of the server the first use of the pool fails with
    `DatabaseDown` and empties it; callers retry or answer 503.
    """
    timeout_ms = settings.db_statement_timeout_ms
    engine = create_async_engine(
        settings.database_url.get_secret_value(),
        pool_size=settings.db_pool_size,
        max_overflow=0,
        pool_timeout=settings.db_connect_timeout_s,
        pool_recycle=1800,
        hide_parameters=True,  # an error would quote what people wrote, and hashes of passwords
        connect_args={
            "timeout": settings.db_connect_timeout_s,
            "command_timeout": timeout_ms / 1000 + SPARE_S,
            "server_settings": {
                "application_name": f"chatbot/{settings.instance_name}"[:63],
                "statement_timeout": str(timeout_ms),
                "idle_in_transaction_session_timeout": str(timeout_ms * 3),
                "jit": "off",
            },
        },
    )
    _count_connections(engine)
    return engine


@asynccontextmanager
async def transaction(engine: AsyncEngine, *, op: Op | None = None) -> AsyncIterator[AsyncConnection]:
    """Run the body in one transaction, committed at its end; with `op` its time is measured.

    Raises:
        DatabaseDown: the server can't be reached, can't serve now or refuses our role a right, or the transaction lost against another
            (deadlock, time limit). Whether a commit happened is then not known; a repeat is right.
    """
    asked = time.perf_counter()
    async with _guard(), engine.begin() as conn:
        had = time.perf_counter()
        metrics.DB_POOL_WAIT.observe(had - asked)
        yield conn
    if op is not None:
        metrics.DB_QUERY.labels(op).observe(time.perf_counter() - had)


@asynccontextmanager
async def autocommit(engine: AsyncEngine, *, op: Op | None = None) -> AsyncIterator[AsyncConnection]:
    """Give a connection on which each statement is a transaction of its own: one round trip each. `op` as for `transaction`.

    Raises:
        DatabaseDown: as for `transaction`.
    """
    asked = time.perf_counter()
    async with _guard(), _autocommit(engine).connect() as conn:
        had = time.perf_counter()
        metrics.DB_POOL_WAIT.observe(had - asked)
        yield conn
    if op is not None:
        metrics.DB_QUERY.labels(op).observe(time.perf_counter() - had)


@lru_cache(maxsize=16)
def _autocommit(engine: AsyncEngine) -> AsyncEngine:
    """Return the same pool with another mode; making it costs as much as a small statement."""
    return engine.execution_options(isolation_level="AUTOCOMMIT")


async def fetch_row(conn: AsyncConnection, statement: str, *arguments: object) -> Sequence[Any] | None:
    """Run one statement through the driver alone, which takes a third of the time of SQLAlchemy's way: for what each webhook waits for.

    Args:
        conn: from `autocommit`; a transaction of SQLAlchemy would not be begun for the driver.
        statement: with `$1`, `$2`, … for arguments.
        arguments: as the driver takes them.

    Raises:
        ValueError: the connection is not in autocommit mode.
        DBAPIError: the server or the driver refuses the statement; `orig` is the driver's error.
    """
    if conn.sync_engine.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        raise ValueError("fetch_row needs a connection from db.engine.autocommit")
    driver = (await conn.get_raw_connection()).driver_connection
    while driver is None or driver.is_closed():  # known without asking; the pool may hold more connections that the server has closed
        await conn.invalidate()
        driver = (await conn.get_raw_connection()).driver_connection
    try:
        row: Sequence[Any] | None = await driver.fetchrow(statement, *arguments)
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DBAPIError(statement, None, error, connection_invalidated=driver.is_closed()) from error
    return row


@asynccontextmanager
async def _guard() -> AsyncIterator[None]:
    try:
        yield
    except (DBAPIError, PoolTimeout, asyncpg.PostgresError, OSError, TimeoutError) as error:
        if is_down(error):
            metrics.DB_CONNECTION_ERRORS.inc()
        elif sqlstate(error) not in (*_AGAIN, _NO_RIGHT) and not sqlstate(error).startswith(_AGAIN[0]):
            raise
        reason = REFUSES_RIGHTS if sqlstate(error) == _NO_RIGHT else _reason(error) or UNREACHABLE
        raise DatabaseDown(f"{_TO_DO[reason]} ({name_of(error)})", reason=reason) from error


def sqlstate(error: BaseException) -> str:
    """Return the server's five-character code, or empty text."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return str(getattr(cause, "sqlstate", None) or "")


def is_down(error: BaseException) -> bool:
    """Whether an error means that the database can't serve now, and not that a statement is wrong."""
    if _reason(error):
        return True
    if not isinstance(error, DBAPIError):
        return isinstance(error, PoolTimeout | OSError | TimeoutError)
    # The driver's InterfaceError is a lost connection, or a statement or setting that it can't use: a fault that no waiting cures.
    cause = error.orig.__cause__ if error.orig is not None else None
    about_connection = isinstance(error, InterfaceError) and error.statement is None and not isinstance(cause, ValueError | TypeError)
    return error.connection_invalidated or about_connection


async def check_writable(conn: AsyncConnection) -> None:
    """Pass if the connection's transaction may write.

    Raises:
        DatabaseDown: it may not; on a standby no transaction may.
    """
    if (await conn.execute(sa.text("SELECT current_setting('transaction_read_only')"))).scalar_one() == "on":
        raise DatabaseDown(_TO_DO[READ_ONLY], reason=READ_ONLY)


def _reason(error: BaseException) -> str | None:
    code = sqlstate(error)
    return next((reason for start, reason in _DOWN.items() if code.startswith(start)), None)


def name_of(error: BaseException) -> str:
    """Name an error's type, and never its text: that may hold the statement or its values."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return type(cause.__cause__ or cause).__name__


def _count_connections(engine: AsyncEngine) -> None:
    """Keep the gauge of connections in use."""
    pool = engine.sync_engine.pool

    def taken(*_: object) -> None:
        metrics.DB_POOL_IN_USE.inc()

    def returned(*_: object) -> None:
        metrics.DB_POOL_IN_USE.dec()

    sa.event.listen(pool, "checkout", taken)
    sa.event.listen(pool, "checkin", returned)
