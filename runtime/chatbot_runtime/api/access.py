"""Who may call which route. A route that is not in the table can't be called: forgetting it denies."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final, cast
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from chatbot_runtime.api.services import services_of
from chatbot_runtime.audit.events import AuditEvent, record
from chatbot_runtime.auth.sessions import Session, find_session
from chatbot_runtime.auth.tokens import token_hash
from chatbot_runtime.db.engine import transaction
from chatbot_runtime.errors import Refused

CSRF_HEADER: Final = "x-csrf-token"
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Access(IntEnum):
    """The least role that may call a route. Roles are ordered: each may do what those before it may."""

    OPEN = 0
    VIEWER = 1
    AGENT = 2
    SUPERVISOR = 3
    ADMIN = 4


WEBSOCKET: Final = "WS"

RULES: Final[Mapping[tuple[str, str], Access]] = {
    ("GET", "/"): Access.OPEN,
    ("GET", "/livez"): Access.OPEN,
    ("GET", "/readyz"): Access.OPEN,
    ("GET", "/healthz"): Access.OPEN,
    ("GET", "/metrics"): Access.OPEN,
    ("GET", "/docs"): Access.OPEN,
    ("GET", "/openapi.json"): Access.OPEN,
    ("GET", "/api/status"): Access.OPEN,
    # The provider proves itself by signature or verify token.
    ("GET", "/webhooks/cloud"): Access.OPEN,
    ("POST", "/webhooks/cloud"): Access.OPEN,
    ("POST", "/api/auth/login"): Access.OPEN,
    ("POST", "/api/auth/logout"): Access.VIEWER,
    ("GET", "/api/auth/me"): Access.VIEWER,
    ("POST", "/api/auth/password"): Access.VIEWER,
    ("POST", "/api/auth/ws-token"): Access.VIEWER,
    # The socket's first frame is a ticket that stands for a session.
    (WEBSOCKET, "/api/ws"): Access.OPEN,
    ("GET", "/api/dashboard/snapshot"): Access.VIEWER,
    ("GET", "/api/messages/{message_id}"): Access.VIEWER,
    ("POST", "/api/messages"): Access.AGENT,
    ("GET", "/api/queue/items"): Access.VIEWER,
    ("POST", "/api/queue/items/{message_id}/decision"): Access.SUPERVISOR,
    ("GET", "/api/conversations"): Access.AGENT,
    ("POST", "/api/conversations/{conversation_id}/mode"): Access.AGENT,
    ("GET", "/api/audit"): Access.SUPERVISOR,
}

POLLED: Final = frozenset({("GET", "/api/status"), ("GET", "/api/dashboard/snapshot")})
"""What open pages ask again and again: no use of a session, so that it idles out."""


async def authorize(conn: HTTPConnection) -> None:
    """Admit the caller of a route or refuse it; the app-wide dependency.

    A session is put into `conn.state.session`.

    Raises:
        Refused: 401 without a living session, 403 for a missing role, CSRF token or a foreign Origin.
    """
    method = cast("str", conn.scope.get("method", WEBSOCKET))
    rule = RULES.get((method, conn.scope["route"].path))
    if rule is None:
        raise Refused(403, "forbidden", "Nobody may call this.")
    if rule is Access.OPEN:
        return
    session = await session_of(conn)
    if session is None:
        raise Refused(401, "login-required", "Log in first.")
    if method not in SAFE_METHODS:
        check_origin(conn)
        if not services_of(conn).signer.csrf_matches(session.token_hash, conn.headers.get(CSRF_HEADER, "")):
            raise Refused(403, "csrf", f"The header {CSRF_HEADER} is missing or stale; GET /api/auth/me returns the current value.")
    if Access[session.role.upper()] < rule:
        await _note_refusal(conn, session)
        raise Refused(403, "forbidden", f"The role {session.role} may not do this; {rule.name.lower()} or higher is needed.")
    conn.state.session = session


def check_origin(conn: HTTPConnection) -> str:
    """Refuse a request that another site's page made.

    The Origin's host must be the one that was asked, or PUBLIC_URL. Programs send no Origin, and no cookie by accident either.

    Returns:
        The Origin, or "" without one.

    Raises:
        Refused: 403.
    """
    origin = conn.headers.get("origin", "")
    if origin:
        same_host = _host_of(origin) == conn.headers.get("host", "")
        if not same_host and origin != services_of(conn).settings.public_url:
            raise Refused(403, "foreign-origin", "The request came from a page of another site.")
    elif conn.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        raise Refused(403, "foreign-origin", "The request came from a page of another site.")
    return origin


def _host_of(origin: str) -> str | None:
    """Return host and port of an Origin; None if it has none, as `null`, or is not one at all."""
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None


def client_address(conn: HTTPConnection) -> str:
    """Return the client's address, as told by trusted proxies only."""
    return conn.client.host if conn.client else ""


def request_id(conn: HTTPConnection) -> str:
    """Return the id that joins the request with logs and audit events."""
    return cast("str", conn.scope["state"]["request_id"])


def cookie_name(conn: HTTPConnection) -> str:
    """Return the session cookie's name; the `__Host-` prefix makes browsers insist on TLS, the path / and this very host."""
    return "__Host-chatbot_session" if services_of(conn).settings.cookie_secure else "chatbot_session"


async def session_of(conn: HTTPConnection) -> Session | None:
    """Return the living session of the caller's cookie, and note its use unless the page polls.

    Raises:
        DatabaseDown: it can't be checked now.
    """
    token = conn.cookies.get(cookie_name(conn))
    if not token:
        return None
    services, touch = services_of(conn), (conn.scope["method"], conn.scope["route"].path) not in POLLED
    async with transaction(services.engine) as db:
        return await find_session(db, token_hash(token), settings=services.settings, touch=touch)


async def _note_refusal(conn: HTTPConnection, session: Session) -> None:
    event = AuditEvent(
        "access.use",
        "refused",
        actor_kind="user",
        actor=str(session.user_id),
        target=f"{conn.scope['method']} {conn.scope['route'].path}",
        ip=client_address(conn),
        request_id=request_id(conn),
    )
    async with transaction(services_of(conn).engine) as db:
        await record(db, event)
