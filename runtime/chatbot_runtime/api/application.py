"""Puts the HTTP application together: routes, who may call them, errors, and the frame around every request."""

from typing import Any, Final

from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute
from starlette.types import ASGIApp

from chatbot_runtime.api import problems, ws
from chatbot_runtime.api.access import RULES, authorize
from chatbot_runtime.api.middleware import Frame
from chatbot_runtime.api.routes import audit, auth, conversations, dashboard, health, messages, pages, queue, webhooks
from chatbot_runtime.api.services import Services
from chatbot_runtime.api.shortcut import Shortcut

ROUTES: Final = (webhooks, health, auth, messages, queue, conversations, dashboard, audit, ws, pages)
"""The busiest first: the router tries them in this order."""

DESCRIPTION: Final = (
    "The HTTP API of a WhatsApp chatbot. People log in with POST /api/auth/login; the session is a cookie, and every POST carries its "
    "csrfToken as X-CSRF-Token. Errors are application/problem+json."
)


def create_application(services: Services) -> tuple[FastAPI, ASGIApp]:
    """Build the application.

    Returns:
        The FastAPI application (tests walk its routes), and what a server runs: the same within its frame, with a short way for webhooks.
    """
    app = FastAPI(
        title="Chatbot runtime",
        version=services.settings.release_version,
        description=DESCRIPTION,
        docs_url=None,
        openapi_url=None,
        redoc_url=None,
        dependencies=[Depends(authorize)],
        generate_unique_id_function=lambda route: f"{route.name}-{'-'.join(route.path.strip('/').split('/'))}",
    )
    app.state.services = services
    problems.install(app)
    for module in ROUTES:
        module.add(app)
    _document_access(app)
    return app, Frame(Shortcut(app, "POST", webhooks.PATH), services.lifecycle, https=services.settings.cookie_secure)


def _document_access(app: FastAPI) -> None:
    """Write the least role of each route into the API's description."""
    for route in app.routes:
        if isinstance(route, APIRoute):
            rules = [RULES[(method, route.path)] for method in sorted(route.methods or ()) if (method, route.path) in RULES]
            extra: dict[str, Any] = {"x-access": rules[0].name.lower()} if rules else {}
            route.openapi_extra = {**(route.openapi_extra or {}), **extra}
