"""The Admin UI's files, and the page that shows the API's description. Everything comes from this image; nothing from a CDN."""

from pathlib import Path
from typing import Final

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

UI: Final = Path(__file__).parents[2] / "ui"


class _Pages(StaticFiles):
    """Files that a browser asks about each time (they are small), so that a new release is seen at once."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["cache-control"] = "no-cache"
        return response


def add(app: FastAPI) -> None:
    """Register the routes."""
    app.get("/", include_in_schema=False)(root)
    app.get("/docs", include_in_schema=False)(docs)
    app.get("/openapi.json", include_in_schema=False)(openapi)
    app.mount("/ui", _Pages(directory=UI, html=True), name="ui")


async def root() -> RedirectResponse:
    """Lead to the start page."""
    return RedirectResponse("/ui/index.html")


async def openapi(request: Request) -> JSONResponse:
    """Return the API's description."""
    return JSONResponse(request.app.openapi())


async def docs() -> FileResponse:
    """Return the page that draws /openapi.json."""
    return FileResponse(UI / "docs.html", headers={"cache-control": "no-cache"})
