"""The app as a real process: start in any order, signals, drain, exit codes, no secret in its output. Needs PostgreSQL and Redis."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from chatbot_runtime.app import CONNECTIONS_MAX
from tests.component.conftest import ADMIN_PASSWORD
from tests.component.running import (
    RuntimeProcess,
    free_port,
    start_fixture,  # noqa: F401  a fixture
    wait_for,
)
from tests.component.servers import Database, Postgres, Redis, clean_env

pytestmark = pytest.mark.component

Start = Callable[..., RuntimeProcess]


def log_in(app: RuntimeProcess, password: str = ADMIN_PASSWORD) -> httpx.Response:
    return httpx.post(f"{app.url}/api/auth/login", json={"username": "admin", "password": password}, timeout=20)


def test_sigterm_finishes_the_request_in_flight_and_exits_0(start: Start, database: Database) -> None:
    """A login is held up by a lock that the test owns, so it is surely in flight when the signal comes."""
    app = start("app").wait_ready()
    blocker = subprocess.Popen(
        ["psql", "-XAtq", "-d", database.url("chatbot_owner")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert blocker.stdin is not None
    assert blocker.stdout is not None
    blocker.stdin.write("BEGIN; LOCK TABLE login_attempts; SELECT 'locked';\n")
    blocker.stdin.flush()
    assert blocker.stdout.readline() == "locked\n"
    answers: list[httpx.Response] = []
    request = threading.Thread(target=lambda: answers.append(log_in(app)))
    request.start()
    wait_for(lambda: database.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"), "wait")
    app.signal(signal.SIGTERM)
    readyz = wait_for(lambda: (answer := app.probe("/readyz")) is not None and answer.status_code == 503 and answer, "not ready")
    assert readyz.json()["message"] == "stopping"
    assert app.probe("/livez").status_code == 200  # type: ignore[union-attr]
    blocker.communicate("COMMIT;\n")
    request.join(timeout=30)
    assert [answer.status_code for answer in answers] == [200]
    assert app.wait_exit() == 0
    assert app.events("stopped")[0]["crashed"] is False


def test_an_idle_app_stops_at_once(start: Start) -> None:
    app = start("app", DRAIN_TIMEOUT_S="60").wait_ready()
    with httpx.Client() as kept_alive:
        assert kept_alive.get(f"{app.url}/livez").status_code == 200
        app.signal(signal.SIGTERM)
        assert app.wait_exit(seconds=10) == 0


def test_it_starts_while_the_database_is_away_and_recovers_by_itself(start: Start, outage: Postgres) -> None:
    outage.stop()
    app = start("app").wait_live()
    assert wait_for(lambda: app.probe("/readyz"), "readyz").status_code == 503
    page = wait_for(lambda: _get(f"{app.url}/ui/realtime_dashboard.html"), "the page")
    assert page.status_code == 200
    assert httpx.get(f"{app.url}/api/status").json()["components"]["database"]["status"] == "down"
    assert log_in(app).status_code == 503
    outage.start()
    app.wait_ready()
    assert log_in(app).status_code == 200


def test_it_waits_for_the_migration_and_says_so(start: Start, empty_database: Database) -> None:
    app = start("app", **empty_database.env()).wait_live()
    health = wait_for(lambda: (answer := _get(f"{app.url}/healthz")) and answer.json()["components"] and answer, "health").json()
    assert health["components"]["database"]["reason"] == "SchemaIncompatible"
    assert "migration" in health["components"]["database"]["message"]


def test_a_taken_port_is_one_clear_line_and_exit_1(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        app = start("app", PORT=str(taken.getsockname()[1]))
        assert app.wait_exit() == 1
        assert len(app.events("port_taken")) == 1


@pytest.mark.parametrize("change", [{"JWT_SECRET": ""}, {"JWT_SECRET": "tiny-7"}, {"ADMIN_PASSWORD": "changeme"}, {"PORT": "x"}])
def test_a_wrong_setting_is_exit_2_and_names_the_variable(runtime_env: dict[str, str], change: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "chatbot_runtime", "app"], env=clean_env({**runtime_env, **change}), capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    name, value = next(iter(change.items()))
    assert name in done.stderr
    assert not value or value == "x" or value not in done.stderr


def test_a_rotated_admin_password_counts_after_a_restart(start: Start) -> None:
    first = start("app").wait_ready()
    assert log_in(first).status_code == 200
    first.signal(signal.SIGTERM)
    assert first.wait_exit() == 0
    second = start("app", ADMIN_PASSWORD="orange-bicycle-71-fly").wait_ready()
    assert log_in(second).status_code == 401
    assert log_in(second, "orange-bicycle-71-fly").status_code == 200


@pytest.mark.parametrize(("address", "secure"), [("https://bot.example.com", True), ("http://bot.example.com", False), ("", False)])
def test_the_cookie_is_secure_when_people_reach_us_over_tls(start: Start, address: str, secure: bool) -> None:
    app = start("app", PUBLIC_URL=address).wait_ready()
    answer = httpx.post(
        f"{app.url}/api/auth/login",
        json={"username": "admin", "password": ADMIN_PASSWORD},
        headers={"origin": address or app.url, "sec-fetch-site": "same-origin"},
        timeout=20,
    )
    assert answer.status_code == 200
    cookie = answer.headers["set-cookie"]
    assert ("; secure" in cookie.lower()) is secure
    assert cookie.startswith("__Host-chatbot_session=" if secure else "chatbot_session=")


@pytest.mark.parametrize(
    ("trusted", "seen"), [("127.0.0.1", "203.0.113.9"), ("127.0.0.0/8,10.0.0.0/8", "203.0.113.9"), ("10.0.0.0/8", "127.0.0.1")]
)
def test_a_forwarded_address_counts_only_from_a_trusted_proxy(start: Start, database: Database, trusted: str, seen: str) -> None:
    app = start("app", TRUSTED_PROXIES=trusted).wait_ready()
    body = {"username": "admin", "password": ADMIN_PASSWORD}
    answer = httpx.post(f"{app.url}/api/auth/login", json=body, headers={"x-forwarded-for": "203.0.113.9"}, timeout=20)
    assert answer.status_code == 200
    assert database.sql("SELECT host(ip::inet) FROM audit_events WHERE action = 'session.open'") == [seen]


def test_more_connections_than_it_can_hold_are_sent_away_until_some_end(start: Start) -> None:
    app = start("app").wait_ready()
    with contextlib.ExitStack() as held:
        for _ in range(CONNECTIONS_MAX):
            held.enter_context(socket.create_connection(("127.0.0.1", app.port), timeout=10))
        wait_for(lambda: httpx.get(f"{app.url}/livez").status_code == 503, "the refusal")
        assert app.probe("/readyz").status_code == 200  # type: ignore[union-attr]
    wait_for(lambda: httpx.get(f"{app.url}/livez").status_code == 200, "room again")


def test_two_replicas_start_together_and_share_sessions(start: Start) -> None:
    one, two = start("app"), start("app")
    one.wait_ready()
    two.wait_ready()
    cookies = log_in(one).cookies
    assert httpx.get(f"{two.url}/api/auth/me", cookies=cookies).status_code == 200


def test_without_redis_everything_works_and_health_is_degraded(start: Start, redis_outage: Redis) -> None:
    app = start("app").wait_ready()
    redis_outage.stop()
    health = wait_for(
        lambda: (found := _get(f"{app.url}/healthz")) and found.json()["components"]["redis"]["status"] == "degraded" and found, "degraded"
    )
    assert health.status_code == 200
    assert health.json()["status"] == "degraded"
    assert log_in(app).status_code == 200
    assert app.probe("/readyz").status_code == 200  # type: ignore[union-attr]
    redis_outage.start()
    wait_for(lambda: httpx.get(f"{app.url}/healthz").json()["status"] == "ok", "recovery")
    lines = [line for line in app.output().splitlines() if "redis" in line.lower()]
    assert len(lines) < 10, "one line a transition, not one a failure"


def test_the_log_is_json_with_request_ids_and_without_query_strings(start: Start) -> None:
    app = start("app").wait_ready()
    answer = httpx.get(f"{app.url}/api/auth/me?token=abc123secret")
    line = wait_for(lambda: [event for event in app.events("request") if event["route"] == "/api/auth/me"], "the log line")[0]
    assert line["request_id"] == answer.headers["x-request-id"]
    assert (line["code"], line["method"]) == (401, "GET")
    assert "abc123secret" not in app.output()


@pytest.mark.skipif(os.getuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare to make a read-only root")
def test_it_runs_as_uid_10001_with_a_read_only_root(runtime_env: dict[str, str]) -> None:
    """The contract's container, made by hand: own mount namespace, / read-only, only /tmp writable, uid and gid 10001."""
    port, metrics_port = free_port(), free_port()
    env = clean_env({**runtime_env, "PORT": str(port), "METRICS_PORT": str(metrics_port), "HOME": "/nonexistent"})
    script = (
        # The checkout may itself lie in /tmp, which is covered: it is kept at /mnt, inside this namespace, and bound back.
        'mount --make-rprivate / && mount --bind "$1" /mnt && mount -t tmpfs -o mode=1777 tmpfs /tmp && '
        'mkdir -p "$1" && mount --bind /mnt "$1" && '
        'mount -o remount,bind,ro "$1" && mount -o remount,bind,ro / && cd / && '
        "exec setpriv --reuid 10001 --regid 10001 --clear-groups --bounding-set -all,+dac_read_search --inh-caps +dac_read_search "
        '--ambient-caps +dac_read_search "$0" -m chatbot_runtime app'
    )
    checkout = Path(__file__).parents[2]
    command = ["unshare", "--mount", "sh", "-ec", script, sys.executable, str(checkout)]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/")
    try:
        wait_for(lambda: process.poll() is not None or _ok(f"http://127.0.0.1:{metrics_port}/readyz"), "ready")
        assert process.poll() is None, process.communicate()[0].decode()[-3000:]
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert "Uid:\t10001\t10001\t10001\t10001" in status
        assert httpx.get(f"http://127.0.0.1:{port}/ui/index.html").status_code == 200
        wrote = subprocess.run(["nsenter", "-t", str(process.pid), "-m", "touch", "/etc/x"], check=False, capture_output=True)
        assert b"Read-only file system" in wrote.stderr
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(timeout=10)


def _get(url: str) -> httpx.Response | None:
    try:
        return httpx.get(url, timeout=10)
    except httpx.TransportError:
        return None


def _ok(url: str) -> bool:
    answer = _get(url)
    return answer is not None and answer.status_code == 200
