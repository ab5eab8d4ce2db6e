"""Login, logout, own password, and tickets for the dashboard's socket."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import FastAPI, Request, Response
from pydantic import Field, SecretStr

from chatbot_runtime import metrics
from chatbot_runtime.api.access import check_origin, client_address, cookie_name, request_id
from chatbot_runtime.api.models import ApiModel
from chatbot_runtime.api.services import Services, services_of
from chatbot_runtime.audit.events import AuditEvent, Outcome, record
from chatbot_runtime.auth.sessions import Session, close_session, close_sessions_of, open_session
from chatbot_runtime.auth.tickets import issue_ticket
from chatbot_runtime.auth.tokens import token_hash
from chatbot_runtime.auth.users import FROM_PERSON, User, find_user, fold, replace_hash, set_password
from chatbot_runtime.db.engine import transaction
from chatbot_runtime.errors import Refused
from chatbot_runtime.secretrules import MINIMUM, check_secret

Password = Annotated[SecretStr, Field(min_length=1, max_length=256)]
"""The bound keeps argon2's input small."""


class Credentials(ApiModel):
    """A login."""

    username: Annotated[str, Field(min_length=1, max_length=64)]
    password: Password


class NewPassword(ApiModel):
    """A change of one's own password."""

    current: Password
    new: Password


class Me(ApiModel):
    """Who is logged in, and the CSRF token to send back as `X-CSRF-Token` with every POST."""

    username: str
    role: str
    csrf_token: str
    expires_at: datetime


class Ticket(ApiModel):
    """A single-use ticket: the first frame of `/api/ws`."""

    token: str
    expires_at: datetime


def add(app: FastAPI) -> None:
    """Register the routes."""
    app.post("/api/auth/login", response_model=Me, tags=["auth"])(login)
    app.post("/api/auth/logout", status_code=204, tags=["auth"])(logout)
    app.get("/api/auth/me", response_model=Me, tags=["auth"])(me)
    app.post("/api/auth/password", status_code=204, tags=["auth"])(change_password)
    app.post("/api/auth/ws-token", response_model=Ticket, tags=["auth"])(ws_token)


async def login(request: Request, response: Response, credentials: Credentials) -> Me:
    """Open a session; its cookie replaces a former one. Failures cost a delay that grows per account and per address."""
    check_origin(request)
    services = services_of(request)
    name, address = fold(credentials.username), client_address(request)
    async with transaction(services.engine) as db:
        wait = await services.limits.charge(db, name, address)
        user = await find_user(db, name)
    if wait:
        metrics.LOGINS.labels("limited").inc()
        metrics.RATE_LIMITED.labels("login").inc()
        raise Refused(429, "too-many-logins", f"Too many failed logins. Wait {wait} s.", retry_after=wait)
    password = credentials.password.get_secret_value()
    matches = await services.passwords.verify(user.password_hash if user else None, password)
    if user is None or not matches or user.disabled:
        await _failed(request, user)
        raise Refused(401, "wrong-credentials", "The name or the password is wrong.")
    return await _open(request, response, user, password)


async def logout(request: Request, response: Response) -> None:
    """End this session and everything that was opened with it."""
    session: Session = request.state.session
    async with transaction(services_of(request).engine) as db:
        await close_session(db, session)
        await record(db, _event(request, "session.close", "ok", session.user_id))
    response.delete_cookie(cookie_name(request), path="/", secure=services_of(request).settings.cookie_secure, httponly=True)


async def me(request: Request) -> Me:
    """Say who is logged in."""
    return me_of(services_of(request), request.state.session)


async def change_password(request: Request, change: NewPassword) -> None:
    """Change one's own password and end one's other sessions."""
    services, session = services_of(request), request.state.session
    new = change.new.get_secret_value()
    try:
        check_secret("admin_password", new)
    except ValueError as error:
        raise Refused(422, "weak-password", f"The new password {error} (at least {MINIMUM['admin_password']} characters).") from None
    async with transaction(services.engine) as db:
        wait = await services.limits.charge(db, session.username, client_address(request))
        user = await find_user(db, session.username)
    if wait:
        raise Refused(429, "too-many-logins", f"Too many wrong passwords. Wait {wait} s.", retry_after=wait)
    if user is None or not await services.passwords.verify(user.password_hash, change.current.get_secret_value()):
        async with transaction(services.engine) as db:
            await record(db, _event(request, "password.change", "refused", session.user_id))
        raise Refused(403, "wrong-credentials", "The current password is wrong.")
    hashed = await services.passwords.hash(new)
    async with transaction(services.engine) as db:
        await set_password(db, session.user_id, hashed, source=FROM_PERSON)
        ended = await close_sessions_of(db, session.user_id, keep=session.token_hash)
        await services.limits.succeeded(db, session.username, client_address(request))
        await record(db, _event(request, "password.change", "ok", session.user_id, sessions=ended))


async def ws_token(request: Request) -> Ticket:
    """Issue a ticket for one dashboard socket: 30 seconds, single use, bound to this session and Origin."""
    services = services_of(request)
    async with transaction(services.engine) as db:
        token, expires_at = await issue_ticket(db, request.state.session, request.headers.get("origin", ""), services.signer)
    return Ticket(token=token, expires_at=expires_at)


async def _failed(request: Request, user: User | None) -> None:
    metrics.LOGINS.labels("failed").inc()
    async with transaction(services_of(request).engine) as db:
        await record(db, _event(request, "session.open", "refused", None, target=str(user.id) if user else ""))


async def _open(request: Request, response: Response, user: User, password: str) -> Me:
    services, address = services_of(request), client_address(request)
    rehashed = await services.passwords.hash(password) if services.passwords.needs_rehash(user.password_hash) else None
    async with transaction(services.engine) as db:
        await services.limits.succeeded(db, user.username, address)
        token, expires_at = await open_session(
            db,
            user.id,
            settings=services.settings,
            ip=address,
            user_agent=request.headers.get("user-agent", ""),
            replaces=request.cookies.get(cookie_name(request)),
        )
        if rehashed:
            await replace_hash(db, user.id, rehashed)
        await record(db, _event(request, "session.open", "ok", user.id))
    metrics.LOGINS.labels("ok").inc()
    response.set_cookie(
        cookie_name(request),
        token,
        max_age=services.settings.session_max_h * 3600,
        path="/",
        secure=services.settings.cookie_secure,
        httponly=True,
        samesite="lax",
    )
    return me_of(services, Session(token_hash(token), user.id, user.username, user.role, expires_at))


def me_of(services: Services, session: Session) -> Me:
    """Describe a session to the person it belongs to."""
    return Me(
        username=session.username,
        role=session.role,
        csrf_token=services.signer.csrf_token(session.token_hash),
        expires_at=session.expires_at,
    )


def _event(request: Request, action: str, outcome: Outcome, user_id: UUID | None, *, target: str = "", **details: int) -> AuditEvent:
    return AuditEvent(
        action,
        outcome,
        actor_kind="user" if user_id else "anonymous",
        actor=str(user_id or ""),
        target=target,
        ip=client_address(request),
        request_id=request_id(request),
        details=details,
    )
