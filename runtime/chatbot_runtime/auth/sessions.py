"""Browser sessions in PostgreSQL: revocable, and alive when Redis is gone. The database's clock, one for all replicas, judges expiry."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from chatbot_runtime.auth.tokens import new_token, token_hash
from chatbot_runtime.db.schema_auth import sessions, users
from chatbot_runtime.settings import Settings

TOUCH_AFTER = timedelta(seconds=60)
"""A session's last use is written at most this often, so that reading stays reading."""

USER_AGENT_MAX = 200


@dataclass(frozen=True, slots=True)
class Session:
    """Who is logged in. `token_hash` identifies the session and is no secret by itself."""

    token_hash: bytes
    user_id: UUID
    username: str
    role: str
    expires_at: datetime


async def open_session(
    conn: AsyncConnection, user_id: UUID, *, settings: Settings, ip: str, user_agent: str, replaces: str | None
) -> tuple[str, datetime]:
    """Create a session and forget the one it replaces (rotation at login) and all that have expired.

    Returns:
        The cookie's value and the moment it ends in any case.
    """
    gone = sessions.c.expires_at < sa.func.now()
    if replaces:
        gone = sa.or_(gone, sessions.c.token_hash == token_hash(replaces))
    await conn.execute(sessions.delete().where(gone))
    token = new_token()
    inserted = sessions.insert().values(
        token_hash=token_hash(token),
        user_id=user_id,
        expires_at=sa.func.now() + timedelta(hours=settings.session_max_h),
        ip=ip,
        user_agent=user_agent[:USER_AGENT_MAX],
    )
    expires_at = (await conn.execute(inserted.returning(sessions.c.expires_at))).scalar_one()
    return token, expires_at


async def find_session(conn: AsyncConnection, session_hash: bytes, *, settings: Settings, touch: bool) -> Session | None:
    """Return a session if it is neither expired, idle for too long, nor its user disabled.

    Args:
        conn: in a transaction.
        session_hash: `token_hash` of the cookie.
        settings: say how long a session may be idle.
        touch: whether this is a use. What a page does by itself is none, or an open page would keep a session from idling out.
    """
    idle = timedelta(minutes=settings.session_idle_min)
    query = (
        sa.select(users.c.id, users.c.username, users.c.role, sessions.c.expires_at, sa.func.now() - sessions.c.last_seen_at)
        .join(users, users.c.id == sessions.c.user_id)
        .where(
            sessions.c.token_hash == session_hash,
            sessions.c.expires_at > sa.func.now(),
            sessions.c.last_seen_at > sa.func.now() - idle,
            users.c.disabled.is_(False),
        )
    )
    row = (await conn.execute(query)).one_or_none()
    if row is None:
        return None
    user_id, username, role, expires_at, unused = row
    if touch and unused > TOUCH_AFTER:
        await conn.execute(sessions.update().where(sessions.c.token_hash == session_hash).values(last_seen_at=sa.func.now()))
    return Session(session_hash, user_id, username, role, expires_at)


async def close_session(conn: AsyncConnection, session: Session) -> None:
    """End one session and, by cascade, its tickets."""
    await conn.execute(sessions.delete().where(sessions.c.token_hash == session.token_hash))


async def close_sessions_of(conn: AsyncConnection, user_id: UUID, *, keep: bytes | None = None) -> int:
    """End a user's sessions, such as after a change of password.

    Args:
        conn: in a transaction.
        user_id: whose.
        keep: `token_hash` of the session to spare.

    Returns:
        How many ended.
    """
    where = [sessions.c.user_id == user_id]
    if keep is not None:
        where.append(sessions.c.token_hash != keep)
    return (await conn.execute(sessions.delete().where(*where))).rowcount
