"""The connection pool, and transactions whose failures say whether the database is down or the statement was wrong."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

import asyncpg
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from chatbot_runtime import metrics
from chatbot_runtime.errors import DatabaseDown
from chatbot_runtime.settings import Settings

SPARE_S = 2.0
"""The client gives up this much later than the server would, so that normally the server's own error is seen."""

_DOWN = ("08", "53", "57P")
"""SQLSTATE classes of a server that can't serve now: connection, resources, shutdown or crash."""

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
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Run the body in one transaction, committed at its end.

    Raises:
        DatabaseDown: the server can't be reached or can't serve now, or the transaction lost against another (deadlock, time limit).
            Whether a commit happened is then not known; a repeat is right.
    """
    async with _guard(), engine.begin() as conn:
        yield conn


@asynccontextmanager
async def autocommit(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Give a connection on which each statement is a transaction of its own: one round trip each.

    Raises:
        DatabaseDown: as for `transaction`.
    """
    async with _guard(), _autocommit(engine).connect() as conn:
        yield conn


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
        if not is_down(error) and sqlstate(error) not in _AGAIN and not sqlstate(error).startswith(_AGAIN[0]):
            raise
        metrics.DB_CONNECTION_ERRORS.inc()
        raise DatabaseDown(_sentence(error)) from error


def sqlstate(error: BaseException) -> str:
    """Return the server's five-character code, or empty text."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return str(getattr(cause, "sqlstate", None) or "")


def is_down(error: BaseException) -> bool:
    """Whether an error means that the database can't serve now, and not that a statement is wrong."""
    if isinstance(error, DBAPIError):
        if error.connection_invalidated or sqlstate(error).startswith(_DOWN):
            return True
        # asyncpg's InterfaceError is a lost connection, but also a value that it can't encode.
        cause = error.orig.__cause__ if error.orig is not None else None
        return isinstance(error, InterfaceError | OperationalError) and not isinstance(cause, ValueError | TypeError)
    return isinstance(error, PoolTimeout | OSError | TimeoutError) or sqlstate(error).startswith(_DOWN)


def _sentence(error: BaseException) -> str:
    """Describe an outage without the statement or its values."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return f"the database can't serve now ({type(cause).__name__})"


def _count_connections(engine: AsyncEngine) -> None:
    """Keep the gauge of connections in use."""
    pool = engine.sync_engine.pool

    def taken(*_: object) -> None:
        metrics.DB_POOL_IN_USE.inc()

    def returned(*_: object) -> None:
        metrics.DB_POOL_IN_USE.dec()

    sa.event.listen(pool, "checkout", taken)
    sa.event.listen(pool, "checkin", returned)
