"""Liveness and readiness, asked over HTTP as the kubelet does."""

import aiohttp
import pytest

from chatbot_operator.engine.health import ProcessHealth
from chatbot_operator.engine.server import metrics_app, probe_app, serving
from chatbot_operator.metrics import Metrics
from tests.unit.operator.engine.fakes import FakeClock

SILENCE = 300.0


async def _ask(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.status, await answer.text()


async def test_probes_answer_before_anything_else_works() -> None:
    health = ProcessHealth(FakeClock(), SILENCE)
    async with serving(probe_app(health), 0) as port:
        assert await _ask(port, "/livez") == (200, "ok")
        assert await _ask(port, "/readyz") == (503, "Starting")
        health.ready_reason = ""
        assert await _ask(port, "/readyz") == (200, "ok")


async def test_metrics_are_served() -> None:
    metrics = Metrics()
    metrics.count_request("get", 200)
    async with serving(metrics_app(metrics.registry), 0) as port:
        status, text = await _ask(port, "/metrics")
    assert status == 200
    assert 'chatbot_operator_api_requests_total{code="200",verb="get"} 1.0' in text


def _health() -> tuple[ProcessHealth, FakeClock]:
    clock = FakeClock()
    return ProcessHealth(clock, SILENCE), clock


def test_silent_watches_of_an_api_that_answers_end_the_process() -> None:
    health, clock = _health()
    clock.advance(SILENCE + 1)
    health.answered("get", 200)
    assert health.not_alive() == "WatchSilent"
    health.watches_heard_at = lambda: clock.seconds
    assert health.not_alive() == ""


@pytest.mark.parametrize("code", [0])
def test_an_api_that_is_away_is_no_reason_to_restart(code: int) -> None:
    health, clock = _health()
    clock.advance(SILENCE + 1)
    health.answered("get", code)
    assert health.not_alive() == ""


def test_a_watch_that_keeps_missing_things_ends_the_process_after_a_while() -> None:
    health, clock = _health()
    deaf_at = clock.seconds
    health.watches_heard_at = lambda: clock.seconds
    health.watch_deaf_at = lambda: deaf_at
    health.answered("get", 200)
    assert health.not_alive() == ""
    clock.advance(SILENCE + 1)
    health.answered("get", 200)
    assert health.not_alive() == "WatchDeaf"
