"""The dashboard's numbers for who polls instead of following the socket."""

import orjson
from fastapi import FastAPI, Request, Response

from chatbot_runtime.api.picture import read_picture
from chatbot_runtime.api.services import services_of
from chatbot_runtime.db.engine import transaction


def add(app: FastAPI) -> None:
    """Register the route."""
    app.get("/api/dashboard/snapshot", tags=["dashboard"], response_class=Response)(snapshot)


async def snapshot(request: Request) -> Response:
    """Return queue, traffic and channels as they are now."""
    async with transaction(services_of(request).engine) as db:
        return Response(orjson.dumps(await read_picture(db)), media_type="application/json")
