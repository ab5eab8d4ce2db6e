"""People who may log in, and the first of them, who comes from the Secret.

`ADMIN_PASSWORD` is asserted at every start as long as nobody has changed that password through the API: rotating the Secret and restarting
the app changes the login and ends its sessions. Once a person has set a password, it belongs to that person and the Secret no longer counts
(a log line says so); otherwise a restart would quietly bring an old, perhaps leaked, password back.
"""

from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from chatbot_runtime.audit.events import AuditEvent, record
from chatbot_runtime.auth.passwords import Passwords
from chatbot_runtime.auth.sessions import close_sessions_of
from chatbot_runtime.db.engine import transaction
from chatbot_runtime.db.schema_auth import users
from chatbot_runtime.settings import Settings

FROM_SECRET = "secret"  # noqa: S105  the name of a source, not a password
FROM_PERSON = "person"
"""Who set a password last: column `users.password_source`."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class User:
    """A user as the login needs it."""

    id: UUID
    username: str
    password_hash: str
    role: str
    disabled: bool


def fold(username: str) -> str:
    """Return the form in which names are stored and compared."""
    return username.strip().lower()


async def find_user(conn: AsyncConnection, username: str) -> User | None:
    """Return a user by folded name, disabled ones too."""
    query = sa.select(users.c.id, users.c.username, users.c.password_hash, users.c.role, users.c.disabled).where(
        users.c.username == username
    )
    row = (await conn.execute(query)).one_or_none()
    return None if row is None else User(*row)


async def set_password(conn: AsyncConnection, user_id: UUID, password_hash: str, *, source: str) -> None:
    """Store a new hash.

    Args:
        conn: in a transaction.
        user_id: whose.
        password_hash: PHC string.
        source: `FROM_SECRET` or `FROM_PERSON`; the latter ends the Secret's say.
    """
    changed = {"password_hash": password_hash, "password_source": source, "password_changed_at": sa.func.now()}
    await conn.execute(users.update().where(users.c.id == user_id).values(changed))


async def replace_hash(conn: AsyncConnection, user_id: UUID, password_hash: str) -> None:
    """Store the same password's hash with today's parameters; whose password it is does not change."""
    await conn.execute(users.update().where(users.c.id == user_id).values(password_hash=password_hash))


async def ensure_admin(engine: AsyncEngine, settings: Settings, passwords: Passwords) -> str:
    """Create the first administrator, or assert its password from the Secret.

    Several replicas may start together: the insert ignores a conflict, and the update is the same for all.

    Returns:
        `created`, `rotated`, `unchanged`, or `ignored` when a person owns the password or other users exist without this one.
    """
    if settings.admin_password is None:
        return "ignored"
    name, password = fold(settings.admin_username), settings.admin_password.get_secret_value()
    async with transaction(engine) as conn:
        query = sa.select(users.c.id, users.c.password_hash, users.c.password_source).where(users.c.username == name)
        known = (await conn.execute(query)).one_or_none()
        anybody = (await conn.execute(sa.select(sa.exists(sa.select(users.c.id))))).scalar_one()
    if known is None and anybody:
        log.warning("admin_not_created", reason="other users exist, and only the first one comes from the Secret")
        return "ignored"
    if known is None:
        return await _create(engine, name, await passwords.hash(password))
    if await passwords.verify(known.password_hash, password):
        return "unchanged"
    if known.password_source != FROM_SECRET:
        log.warning("admin_password_ignored", reason="a person changed the password since; the Secret no longer counts")
        return "ignored"
    return await _rotate(engine, known.id, await passwords.hash(password))


async def _create(engine: AsyncEngine, name: str, password_hash: str) -> str:
    statement = insert(users).values(username=name, password_hash=password_hash, password_source=FROM_SECRET, role="admin")
    async with transaction(engine) as conn:
        made = (await conn.execute(statement.on_conflict_do_nothing().returning(users.c.id))).scalar_one_or_none()
        if made is None:
            return "unchanged"
        await record(conn, AuditEvent("user.create", "ok", actor="app", target=str(made), details={"source": "secret", "role": "admin"}))
    log.info("admin_created")
    return "created"


async def _rotate(engine: AsyncEngine, user_id: UUID, password_hash: str) -> str:
    async with transaction(engine) as conn:
        await set_password(conn, user_id, password_hash, source=FROM_SECRET)
        ended = await close_sessions_of(conn, user_id)
        await record(
            conn, AuditEvent("password.rotate", "ok", actor="app", target=str(user_id), details={"source": "secret", "sessions": ended})
        )
    log.info("admin_password_rotated", sessions_ended=ended)
    return "rotated"
