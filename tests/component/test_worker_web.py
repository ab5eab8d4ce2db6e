"""worker-web: one process a number, a state that never pretends, probes that pairing can't fail. Needs PostgreSQL and Redis."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.component.running import RuntimeProcess, start_fixture, wait_for  # noqa: F401  a fixture
from tests.component.servers import Database, Postgres

pytestmark = pytest.mark.component

Start = Callable[..., RuntimeProcess]


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    made = tmp_path / "profile"
    made.mkdir()
    return made


def metrics_of(worker: RuntimeProcess) -> dict[str, float]:
    answer = worker.probe("/metrics")
    assert answer is not None
    lines = [line.rpartition(" ") for line in answer.text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def status(worker: RuntimeProcess, path: str) -> int:
    answer = worker.probe(path)
    assert answer is not None
    return answer.status_code


def test_an_unpaired_number_is_ready_and_says_unpaired(start: Start, profile: Path, database: Database) -> None:
    worker = start("worker-web", WEB_NUMBER="support", WEB_PROFILE_DIR=str(profile)).wait_ready()
    answer = worker.probe("/readyz")
    assert answer is not None
    assert answer.json()["message"].startswith("Unpaired")
    found = wait_for(lambda: (seen := metrics_of(worker))['chatbot_session_state{state="unpaired"}'] == 1 and seen, "the state")
    assert found['chatbot_session_state{state="standby"}'] == 0
    assert found["chatbot_lease_held"] == 1
    assert found["chatbot_lease_epoch"] == 1
    assert found['chatbot_session_state_changes_total{from="standby",to="unpaired"}'] == 1
    assert not any("ready" in name or "paired" in name for name in found if "session_state{" in name and "unpaired" not in name)
    paused = "SELECT pause_reason FROM channels WHERE id = 'web:support' AND paused_until = 'infinity'"
    wait_for(lambda: database.sql(paused) == ["The number is not paired with a phone."], "the pause")


def test_a_second_worker_waits_until_the_first_releases_the_lease(start: Start, profile: Path) -> None:
    first = start("worker-web", WEB_NUMBER="support", WEB_PROFILE_DIR=str(profile)).wait_ready()
    second = start("worker-web", WEB_NUMBER="support", WEB_PROFILE_DIR=str(profile)).wait_live()
    assert wait_for(lambda: second.probe("/readyz"), "readyz").status_code == 503
    assert status(second, "/livez") == 200
    first.signal(signal.SIGTERM)
    assert first.wait_exit() == 0
    second.wait_ready()
    assert wait_for(lambda: (seen := metrics_of(second))["chatbot_lease_held"] and seen, "the lease")["chatbot_lease_epoch"] == 2


def test_a_killed_worker_is_followed_when_its_lease_expires(start: Start, profile: Path) -> None:
    first = start("worker-web", WEB_NUMBER="support", WEB_PROFILE_DIR=str(profile), LEASE_TTL_S="4").wait_ready()
    first.signal(signal.SIGKILL)
    first.wait_exit()
    second = start("worker-web", WEB_NUMBER="support", WEB_PROFILE_DIR=str(profile), LEASE_TTL_S="4").wait_ready()
    assert wait_for(lambda: (seen := metrics_of(second))["chatbot_lease_held"] and seen, "the lease")["chatbot_lease_epoch"] == 2


def test_two_numbers_do_not_disturb_each_other(start: Start, profile: Path) -> None:
    for number in ("support", "sales"):
        start("worker-web", WEB_NUMBER=number, WEB_PROFILE_DIR=str(profile)).wait_ready()


def test_an_outage_ends_readiness_but_never_liveness(start: Start, profile: Path, outage: Postgres) -> None:
    worker = start("worker-web", WEB_NUMBER="support", WEB_PROFILE_DIR=str(profile), LEASE_TTL_S="4").wait_ready()
    outage.stop()
    wait_for(lambda: status(worker, "/readyz") == 503, "the lease's end")
    assert status(worker, "/livez") == 200
    outage.start()
    worker.wait_ready()
    assert status(worker, "/livez") == 200


def test_a_database_that_it_cannot_work_with_ends_readiness_while_it_still_holds_the_lease(
    start: Start, profile: Path, database: Database
) -> None:
    worker = start("worker-web", WEB_NUMBER="support", WEB_PROFILE_DIR=str(profile)).wait_ready()
    database.sql("UPDATE schema_compat SET version = 99, compatible_since = 99")
    wait_for(lambda: status(worker, "/readyz") == 503, "the end of readiness")
    assert metrics_of(worker)["chatbot_lease_held"] == 1
    assert "schema" in worker.probe("/readyz").json()["message"]  # type: ignore[union-attr]


def test_a_missing_profile_directory_is_named_and_recovers(start: Start, tmp_path: Path) -> None:
    missing = tmp_path / "volume"
    worker = start("worker-web", WEB_NUMBER="support", WEB_PROFILE_DIR=str(missing), LEASE_TTL_S="3").wait_ready()
    wait_for(lambda: metrics_of(worker)['chatbot_session_state{state="profile_unusable"}'] == 1, "the state")
    assert status(worker, "/livez") == 200
    missing.mkdir()
    wait_for(lambda: metrics_of(worker)['chatbot_session_state{state="unpaired"}'] == 1, "recovery")


def test_a_pause_by_a_person_is_not_overwritten(start: Start, profile: Path, database: Database) -> None:
    database.sql(
        "INSERT INTO channels (id, kind, external_id, paused_until, pause_reason)"
        " VALUES ('web:support', 'web', 'support', 'infinity', 'holidays')"
    )
    worker = start("worker-web", WEB_NUMBER="support", WEB_PROFILE_DIR=str(profile), LEASE_TTL_S="3").wait_ready()
    wait_for(lambda: metrics_of(worker)['chatbot_session_state{state="unpaired"}'] == 1, "the state")
    assert database.sql("SELECT pause_reason FROM channels") == ["holidays"]


def test_sigterm_releases_the_lease_and_exits_0(start: Start, profile: Path, database: Database) -> None:
    worker = start("worker-web", WEB_NUMBER="support", WEB_PROFILE_DIR=str(profile)).wait_ready()
    worker.signal(signal.SIGTERM)
    assert worker.wait_exit() == 0
    assert database.sql("SELECT name FROM worker_leases WHERE expires_at > now()") == []


def test_without_a_number_it_refuses_to_start(start: Start) -> None:
    worker = start("worker-web")
    assert worker.wait_exit() == 2
    assert "WEB_NUMBER" in worker.output()
