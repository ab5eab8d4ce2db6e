"""docs/runtime-contract.md, as tests that any image can be run against (see conftest). Needs PostgreSQL and Redis."""

import json
import re
import signal
from collections.abc import Callable

import pytest

from tests.component.running import wait_for
from tests.component.servers import Postgres
from tests.contract.conftest import Image, Running
from tests.support import contract_document as page

pytestmark = pytest.mark.component

Start = Callable[..., Running]
LONG_RUNNING = ["app", "scheduler", "worker-web"]
RESULT_MAX = 4096


def result_of(text: str) -> dict[str, str]:
    """Check the form of a Job result and return it."""
    assert 0 < len(text.encode()) <= RESULT_MAX
    result: dict[str, str] = json.loads(text)
    assert result["version"] == 1
    assert result["job"] == "migrate"
    assert result["message"]
    return result


def test_migrate_brings_an_empty_database_to_the_head_and_is_repeatable(image: Image) -> None:
    code, text = image.migrate()
    first = result_of(text)
    assert (code, first["outcome"], first["reason"]) == (0, "Succeeded", "Migrated")
    code, text = image.migrate()
    again = result_of(text)
    assert (code, again["outcome"], again["reason"]) == (0, "Succeeded", "AlreadyCurrent")
    assert first["revision"] == again["revision"] == again["revisionBefore"] != ""


def test_migrate_says_that_the_database_is_unreachable(image: Image) -> None:
    code, text = image.migrate(DATABASE_PORT="9")
    result = result_of(text)
    assert (code, result["outcome"], result["reason"]) == (1, "Failed", "DatabaseUnreachable")


def test_migrate_with_a_wrong_password_fails_without_showing_it(image: Image) -> None:
    wrong = image.folder / "wrong"
    wrong.write_text("surely-not-this-password")
    code, text = image.migrate(DATABASE_PASSWORD_FILE=str(wrong))
    assert (code, result_of(text)["outcome"]) == (1, "Failed")
    assert "surely-not-this-password" not in text


@pytest.mark.parametrize("word", LONG_RUNNING)
def test_a_command_serves_its_probes_and_ends_orderly(image: Image, start: Start, word: str) -> None:
    assert image.migrate()[0] == 0
    running = start(word)
    running.wait_status("/livez", 200)
    running.wait_status("/readyz", 200)
    metrics = running.wait_status("/metrics", 200)
    assert metrics.headers["content-type"].startswith(("text/plain", "application/openmetrics-text"))
    assert "chatbot_build_info{" in metrics.text
    assert f'role="{word}"' in metrics.text
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(timeout=30) == 0


NOT_KNOWN_AT_START = {
    "limiter_mode",
    "outbox_messages",
    "outbox_pending",
    "outbox_oldest_age_seconds",
    "last_inbound_timestamp_seconds",
    "table_rows_estimate",
}
"""Gauges of what has been sent or received, of channels that exist, or of what the database finds out in its own time."""


@pytest.mark.parametrize("word", LONG_RUNNING)
def test_a_command_exposes_the_metrics_that_the_contract_names(image: Image, start: Start, word: str) -> None:
    assert image.migrate()[0] == 0
    running = start(word)
    rows = page.metrics()
    late = {f"chatbot_{name}" for name in NOT_KNOWN_AT_START}
    wanted = {(row.name, row.kind) for row in rows if word in row.roles and row.name not in late}
    foreign = {row.name for row in rows if row.kind == "gauge" and word not in row.roles}

    def declared() -> set[tuple[str, str]]:
        answer = running.get("/metrics")
        lines = [line.split() for line in answer.text.splitlines() if line.startswith("# TYPE ")] if answer else []
        found = {(name, kind) for _, _, name, kind in lines}
        assert not foreign & {name for name, _ in found}
        return found

    wait_for(lambda: wanted <= declared(), f"{word} exposes {sorted(wanted)}")
    sample = re.compile(r"(chatbot_\w+?)(?:_bucket|_sum|_count|_created)?(?:\{(.*)\})? \S+")
    labels = {row.name: set(row.labels) for row in rows}
    for line in (running.get("/metrics") or pytest.fail("it does not answer")).text.splitlines():
        if (match := sample.fullmatch(line)) and match[1] in labels:
            assert set(re.findall(r'(\w+)="', match[2] or "")) - {"le"} == labels[match[1]], line


def test_the_app_serves_the_same_on_its_main_port(image: Image, start: Start) -> None:
    assert image.migrate()[0] == 0
    running = start("app")
    running.wait_status("/readyz", 200, main=True)
    running.wait_status("/livez", 200, main=True)
    running.wait_status("/metrics", 200, main=True)
    health = running.wait_status("/healthz", 200, main=True).json()
    assert health["status"] in ("ok", "degraded")
    for component in health["components"].values():
        assert {"status", "since", "message"} <= set(component)


@pytest.mark.parametrize("word", LONG_RUNNING)
def test_without_a_database_a_command_lives_and_is_not_ready(start: Start, word: str) -> None:
    running = start(word, DATABASE_PORT="9")
    running.wait_status("/livez", 200)
    running.wait_status("/readyz", 503)
    if word == "app":
        health = running.wait_status("/healthz", 503, main=True).json()
        assert health["status"] == "down"
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(timeout=30) == 0


@pytest.mark.parametrize("word", LONG_RUNNING)
def test_without_the_schema_a_command_waits_for_the_migration(image: Image, start: Start, word: str) -> None:
    running = start(word)
    running.wait_status("/livez", 200)
    running.wait_status("/readyz", 503)
    assert image.migrate()[0] == 0
    running.wait_status("/readyz", 200)


@pytest.mark.parametrize("word", LONG_RUNNING)
def test_redis_does_not_count_for_readiness(image: Image, start: Start, word: str) -> None:
    assert image.migrate()[0] == 0
    start(word, REDIS_PORT="9").wait_status("/readyz", 200)


def test_readiness_follows_the_database_and_liveness_does_not(image: Image, start: Start, outage: Postgres) -> None:
    assert image.migrate()[0] == 0
    running = start("app")
    running.wait_status("/readyz", 200)
    outage.stop()
    running.wait_status("/readyz", 503)
    running.wait_status("/livez", 200)
    running.wait_status("/healthz", 503, main=True)
    outage.start()
    running.wait_status("/readyz", 200)


@pytest.mark.parametrize("changes", [{"JWT_SECRET_FILE": ""}, {"JWT_SECRET_FILE": "/no/such/file"}, {"METRICS_PORT": "none"}])
def test_wrong_settings_end_the_command_with_an_error(image: Image, changes: dict[str, str]) -> None:
    done = image.run("app", **changes)
    assert done.returncode not in (0, 1)
    assert next(iter(changes)).removesuffix("_FILE") in done.stderr


def test_an_unknown_command_is_refused(image: Image) -> None:
    assert image.run("no-such-command").returncode not in (0, 1)
