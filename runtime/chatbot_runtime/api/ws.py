"""`/api/ws`: the dashboard's socket. Its first frame is a ticket of `POST /api/auth/ws-token`; afterwards it only sends.

Close codes: 4401 no or a bad ticket, or the session ended; 1012 this process stops, connect again.
"""

import asyncio
import contextlib
from typing import Final

import orjson
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chatbot_runtime.api.services import Services, services_of
from chatbot_runtime.auth.sessions import Session, find_session
from chatbot_runtime.auth.tickets import redeem_ticket
from chatbot_runtime.db.engine import transaction
from chatbot_runtime.errors import DatabaseDown

FIRST_FRAME_S: Final = 10.0
SESSION_CHECK_S: Final = 15.0
"""An ended session closes its sockets within this time."""

UNAUTHORIZED: Final = 4401
RESTART: Final = 1012
SLOW_S: Final = 10.0
"""A browser that takes no frame for this long is dropped; it resumes by seq."""


class Hello(BaseModel):
    """The first frame. `feed` and `seq` resume where an earlier socket ended."""

    model_config = ConfigDict(extra="forbid")

    ticket: str = Field(max_length=200)
    feed: str = Field("", max_length=64)
    seq: int = -1


def add(app: FastAPI) -> None:
    """Register the route."""
    app.websocket("/api/ws")(serve)


async def serve(socket: WebSocket) -> None:
    """Serve one socket to its end."""
    services = services_of(socket)
    await socket.accept()
    try:
        async with asyncio.timeout(FIRST_FRAME_S):
            hello = Hello.model_validate_json(await socket.receive_text())
        async with transaction(services.engine) as db:
            session = await redeem_ticket(db, hello.ticket, socket.headers.get("origin", ""), services.signer, services.settings)
    except (ValidationError, TimeoutError, KeyError):
        session, hello = None, None
    except WebSocketDisconnect:
        return
    except DatabaseDown:
        await _close(socket, RESTART)
        return
    if session is None or hello is None:
        await _close(socket, UNAUTHORIZED)
        return
    with services.feed.watching():
        await _follow(socket, services, session, hello)


async def _follow(socket: WebSocket, services: Services, session: Session, hello: Hello) -> None:
    """Send frames until the browser leaves, the session ends or the process stops."""
    tasks = {
        asyncio.create_task(_send(socket, services, hello)): RESTART,
        asyncio.create_task(_until_session_ends(services, session)): UNAUTHORIZED,
        asyncio.create_task(_until_closed(socket)): None,
    }
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    code = tasks[done.pop()]
    if code is not None:
        await _close(socket, code)


async def _send(socket: WebSocket, services: Services, hello: Hello) -> None:
    with contextlib.suppress(WebSocketDisconnect, TimeoutError):
        async for frame in services.feed.frames(hello.feed, hello.seq):
            async with asyncio.timeout(SLOW_S):
                await socket.send_text(orjson.dumps(frame).decode())


async def _until_session_ends(services: Services, session: Session) -> None:
    while not await services.lifecycle.pause(SESSION_CHECK_S):
        with contextlib.suppress(DatabaseDown):  # not known is not ended; the feed is silent meanwhile
            async with transaction(services.engine) as db:
                if await find_session(db, session.token_hash, settings=services.settings, touch=False) is None:
                    return
    await asyncio.Event().wait()  # stopping: the sender closes the socket


async def _until_closed(socket: WebSocket) -> None:
    """Wait for the browser to leave; what it says after the ticket is not read as anything."""
    with contextlib.suppress(WebSocketDisconnect, RuntimeError, KeyError):
        while True:
            await socket.receive_text()


async def _close(socket: WebSocket, code: int) -> None:
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # it may have closed in the same moment
        await socket.close(code)
