"""Probes for Kubernetes, the health report for people and the operator, and metrics."""

from typing import Any

import prometheus_client
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from chatbot_runtime.api.access import session_of
from chatbot_runtime.api.routes.auth import me_of
from chatbot_runtime.api.services import Services, services_of
from chatbot_runtime.errors import DatabaseDown
from chatbot_runtime.health.board import Status
from chatbot_runtime.metrics import REGISTRY


def add(app: FastAPI) -> None:
    """Register the routes."""
    app.get("/livez", tags=["health"])(livez)
    app.get("/readyz", tags=["health"])(readyz)
    app.get("/healthz", tags=["health"])(healthz)
    app.get("/metrics", tags=["health"], response_class=Response)(metrics)
    app.get("/api/status", tags=["health"])(status)


async def livez() -> JSONResponse:
    """Answer 200 while the event loop runs; never depends on a database."""
    return JSONResponse({"status": Status.OK, "message": "ok"})


async def readyz(request: Request) -> JSONResponse:
    """Answer 200 when this process can do its work, 503 while it starts, stops, or has no usable database."""
    finding = services_of(request).ready()
    return JSONResponse({"status": finding.status, "message": finding.message}, status_code=503 if finding.status is Status.DOWN else 200)


async def healthz(request: Request) -> JSONResponse:
    """Report each component: 200 `ok` or `degraded`, 503 when the database is down."""
    report = _report(services_of(request), detailed=False)
    return JSONResponse(report, status_code=503 if report["status"] is Status.DOWN else 200)


async def metrics() -> Response:
    """Return metrics in Prometheus' text format."""
    return Response(prometheus_client.generate_latest(REGISTRY), media_type=prometheus_client.CONTENT_TYPE_LATEST)


async def status(request: Request) -> dict[str, Any]:
    """Return what a page needs before anything else: the health report and who is logged in.

    The answer is 200 as long as this process runs, so that an outage is content for a page. `meKnown` is false when the login can't be
    checked; `me` is null when nobody is logged in.
    """
    services = services_of(request)
    try:
        session, known = await session_of(request), True
    except DatabaseDown:
        session, known = None, False
    settings = services.settings
    return {
        **_report(services, detailed=session is not None),
        "instance": settings.instance_name,
        "version": settings.release_version,
        "humanIdleHours": settings.human_idle_h,
        "startedAt": services.started_at,
        "me": me_of(services, session).model_dump(by_alias=True) if session else None,
        "meKnown": known,
    }


def _report(services: Services, *, detailed: bool) -> dict[str, Any]:
    components = {
        item.name: {
            "status": item.status,
            "since": item.since.isoformat(),
            "message": (detailed and item.detail) or item.message,
            "reason": item.reason,
        }
        for item in services.board.components()
    }
    return {"status": services.monitor.overall(), "components": components}
