"""The short way to the one route that is flooded: past the router and its dependencies, which cost more than all that a webhook needs.

The route stays registered, so it is described, and listed in the table of access, like any other; errors are answered by the application's
own handlers. Only an open route may take the short way: nothing here asks who is calling.
"""

from typing import Final

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from chatbot_runtime.api.access import RULES, Access

_OUTERMOST: Final = (500, Exception)
"""Handled around everything else, as Starlette does it."""


class Shortcut:
    """Serves one route of the application itself, and hands everything else to it."""

    def __init__(self, app: FastAPI, method: str, path: str) -> None:
        """Take the route over.

        Args:
            app: with the route, whose endpoint takes a Request and returns a Response, and with all its exception handlers.
            method: of the route.
            path: of the route, without parameters.

        Raises:
            ValueError: the route is not open to everybody, or there is none.
        """
        if RULES.get((method, path)) is not Access.OPEN:
            raise ValueError(f"{method} {path} is not open")
        routes = [route for route in app.routes if isinstance(route, APIRoute) and route.path == path and method in (route.methods or ())]
        if len(routes) != 1:
            raise ValueError(f"{method} {path} is {len(routes)} routes")
        self._app, self._method, self._path, self._route = app, method, path, routes[0]
        handlers = {key: handler for key, handler in app.exception_handlers.items() if key not in _OUTERMOST}
        self._direct: ASGIApp = ServerErrorMiddleware(ExceptionMiddleware(self._serve, handlers), app.exception_handlers[Exception])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http" and scope["path"] == self._path and scope["method"] == self._method:
            scope["app"], scope["route"] = self._app, self._route
            await self._direct(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._route.endpoint(Request(scope, receive))
        await response(scope, receive, send)
