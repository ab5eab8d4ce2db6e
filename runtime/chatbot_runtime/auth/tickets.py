"""ws-tokens: a random single-use ticket that opens one dashboard socket. It lives 30 seconds and is bound to session and Origin.

A browser can't set headers on a WebSocket, and a token in a URL ends up in logs; so the page fetches a ticket and sends it as first frame.
"""

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from chatbot_runtime.auth.sessions import Session, find_session
from chatbot_runtime.auth.tokens import Signer, new_token, token_hash
from chatbot_runtime.db.schema_auth import ws_tickets
from chatbot_runtime.settings import Settings

LIFETIME = timedelta(seconds=30)
PURPOSE = "ws-token"


async def issue_ticket(conn: AsyncConnection, session: Session, origin: str, signer: Signer) -> tuple[str, datetime]:
    """Create a ticket for a session; expired ones are removed on the way.

    Returns:
        The ticket and when it expires.
    """
    await conn.execute(ws_tickets.delete().where(ws_tickets.c.expires_at < sa.func.now()))
    token = new_token()
    inserted = ws_tickets.insert().values(
        token_hash=token_hash(token), session_hash=session.token_hash, origin=origin, expires_at=sa.func.now() + LIFETIME
    )
    expires_at = (await conn.execute(inserted.returning(ws_tickets.c.expires_at))).scalar_one()
    return signer.sign(PURPOSE, token), expires_at


async def redeem_ticket(conn: AsyncConnection, presented: str, origin: str, signer: Signer, settings: Settings) -> Session | None:
    """Use a ticket up.

    The row is deleted by the statement that reads it, so of two sockets with the same ticket exactly one gets the session.

    Returns:
        The session it stands for, or None if it is forged, used, expired, from another Origin, or its session has ended.
    """
    token = signer.unsign(PURPOSE, presented)
    if token is None:
        return None
    used = ws_tickets.delete().where(ws_tickets.c.token_hash == token_hash(token), ws_tickets.c.expires_at > sa.func.now())
    row = (await conn.execute(used.returning(ws_tickets.c.session_hash, ws_tickets.c.origin))).one_or_none()
    if row is None or row.origin != origin:
        return None
    return await find_session(conn, row.session_hash, settings=settings, touch=False)
