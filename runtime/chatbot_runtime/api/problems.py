"""Every error as `application/problem+json` (RFC 9457), with the request's id and never an internal detail.

A database that can't be reached is 503 with Retry-After wherever it is noticed: callers of this API retry on that and on nothing else.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, cast

import orjson
import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from chatbot_runtime.errors import DatabaseDown, Refused

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:chatbot:problem:"
RETRY_AFTER_S = 5

log = structlog.get_logger(__name__)


def problem(
    status: int,
    kind: str,
    detail: str,
    *,
    request_id: str = "",
    headers: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Response:
    """Return a problem document.

    Args:
        status: HTTP status.
        kind: last part of the problem type, kebab-case; clients may branch on it.
        detail: one sentence for a person.
        request_id: joins the answer with the logs.
        headers: more headers.
        extra: more members of the document.
    """
    body = {"type": TYPE_PREFIX + kind, "title": HTTPStatus(status).phrase, "status": status, "detail": detail, "requestId": request_id}
    return Response(orjson.dumps({**body, **(extra or {})}), status, headers, MEDIA_TYPE)


def database_down(request_id: str) -> Response:
    """Return the answer to anything that needs the database while it is away."""
    text = "The database can't be reached at the moment. Nothing was stored; try again."
    return problem(503, "database-down", text, request_id=request_id, headers={"Retry-After": str(RETRY_AFTER_S)})


def install(app: FastAPI) -> None:
    """Register the handlers."""
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(DatabaseDown, _database_down)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


def _id(request: Request) -> str:
    return cast("str", request.scope.get("state", {}).get("request_id", ""))


async def _refused(request: Request, error: Exception) -> Response:
    refused = cast("Refused", error)
    headers = {} if refused.retry_after is None else {"Retry-After": str(refused.retry_after)}
    return problem(refused.status, refused.kind, refused.detail, request_id=_id(request), headers=headers)


async def _database_down(request: Request, error: Exception) -> Response:
    request.app.state.services.monitor.nudge()
    log.debug("database_down", cause=str(error))
    return database_down(_id(request))


async def _invalid(request: Request, error: Exception) -> Response:
    """Name the fields and rules that were broken; the input itself may hold a password and is left out."""
    errors = cast("RequestValidationError", error).errors()
    if any(item["type"] == "json_invalid" for item in errors):
        return problem(400, "not-json", "The body is not JSON.", request_id=_id(request))
    fields = [{"field": ".".join(str(part) for part in item["loc"]), "problem": item["msg"]} for item in errors]
    return problem(422, "invalid-request", "A field is missing or not usable.", request_id=_id(request), extra={"fields": fields})


async def _http(request: Request, error: Exception) -> Response:
    raised = cast("HTTPException", error)
    kind = HTTPStatus(raised.status_code).phrase.lower().replace(" ", "-")
    return problem(raised.status_code, kind, str(raised.detail), request_id=_id(request), headers=raised.headers)


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("request_failed", exc_info=error)
    return problem(500, "internal", "Something went wrong here. The request id finds it in the logs.", request_id=_id(request))
