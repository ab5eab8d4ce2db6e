"""The operator process when things break around it: killed, twice, cut off, deaf, with an expired token; each against a real API server."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.kubeconfig import write_token
from tests.support import instances
from tests.support.audit import AuditLog
from tests.support.cluster import ROOT, Cluster
from tests.support.faultproxy import FaultProxy
from tests.support.fixtures import OPERATOR_NAME, OPERATOR_NAMESPACE, OPERATOR_USER, OperatorAccount, StartOperator
from tests.support.instances import edit, manifest, wait_ready
from tests.support.kubeapi import KubeApi, path
from tests.support.operatorprocess import OperatorProcess

LEASE = path("Lease", OPERATOR_NAMESPACE, OPERATOR_NAME)


@pytest.fixture
def proxy(cluster: Cluster, operator_account: OperatorAccount, tmp_path: Path) -> Iterator[FaultProxy]:
    """A fault proxy in front of the API server."""
    with FaultProxy(cluster.server, cluster.ca_file, tmp_path / "proxy").running() as running:
        yield running


@pytest.fixture
def through_proxy(cluster: Cluster, operator_account: OperatorAccount, proxy: FaultProxy, tmp_path: Path) -> Path:
    """The operator's kubeconfig through the proxy."""
    token = cluster.account_token(operator_account.namespace, operator_account.name)
    return write_token(tmp_path / "proxied.kubeconfig", proxy.url, proxy.ca_file, token)


def _leads(operator: OperatorProcess) -> bool:
    return operator.running and "chatbot_operator_lease_is_leader 1.0" in operator.metrics()


async def _wait_leader(*operators: OperatorProcess) -> tuple[OperatorProcess, list[OperatorProcess]]:
    """Wait until one leads; return it and the others."""
    await instances.until(lambda: any(_leads(each) for each in operators), "a leader")
    leader = next(each for each in operators if _leads(each))
    return leader, [each for each in operators if each is not leader]


async def _handled(admin: KubeApi, namespace: str, replicas: int) -> None:
    """Edit the instance and wait until the edit reached its children."""
    await edit(admin, namespace, {"app": {"replicas": replicas}})
    await _reached(admin, namespace, replicas)


async def _reached(admin: KubeApi, namespace: str, replicas: int) -> None:
    app = path("Deployment", namespace, "shop-app")
    await admin.wait(app, lambda live: live["spec"]["replicas"] == replicas, 90, f"{replicas} replicas")


async def test_of_two_operators_one_acts_and_the_other_takes_over_when_it_is_killed(
    admin: KubeApi, namespace: str, start_operator: StartOperator
) -> None:
    both = (start_operator(), start_operator())
    leader, (standby,) = await _wait_leader(*both)
    await admin.create(manifest(namespace))
    await wait_ready(admin, namespace)
    assert instances.passes(standby) == 0, "a standby must not act"
    assert standby.probe("readyz") == standby.probe("livez") == 200
    leader.kill()
    await _handled(admin, namespace, 3)
    assert _leads(standby)


async def test_a_paused_leader_that_wakes_up_after_its_lease_changes_nothing_and_ends(
    admin: KubeApi, namespace: str, start_operator: StartOperator
) -> None:
    """SIGSTOP plays a process that hangs: when it wakes up, another leads."""
    both = (start_operator(), start_operator())
    leader, (standby,) = await _wait_leader(*both)
    await admin.create(manifest(namespace))
    await wait_ready(admin, namespace)
    leader.signal(signal.SIGSTOP)
    await instances.until(lambda: _leads(standby), "the standby takes over")
    leader.signal(signal.SIGCONT)
    await instances.until(lambda: not leader.running, "the former leader ends")
    assert leader.exit_code == 1
    assert "task.ended" in leader.log.read_text()
    await _handled(admin, namespace, 3)


async def test_sigterm_hands_the_lease_over_at_once(admin: KubeApi, namespace: str, start_operator: StartOperator) -> None:
    both = (start_operator(settings={"CHATBOT_LEASE_SECONDS": "60"}), start_operator(settings={"CHATBOT_LEASE_SECONDS": "60"}))
    leader, (standby,) = await _wait_leader(*both)
    await admin.create(manifest(namespace))
    await wait_ready(admin, namespace)
    assert leader.terminate() == 0
    await instances.until(lambda: _leads(standby), "the standby leads long before 60 s", timeout=20)
    await _handled(admin, namespace, 3)


async def test_a_standby_ends_at_once_on_sigterm(start_operator: StartOperator) -> None:
    leader, (standby,) = await _wait_leader(start_operator(), start_operator())
    assert standby.terminate(timeout=15) == 0
    assert _leads(leader)


async def test_another_holder_that_is_seen_ends_the_process(admin: KubeApi, start_operator: StartOperator) -> None:
    leader, _ = await _wait_leader(start_operator())
    await admin.patch(LEASE, {"spec": {"holderIdentity": "somebody-else"}})
    await instances.until(lambda: not leader.running, "the process ends")
    assert leader.exit_code == 1


async def test_an_api_server_that_goes_away_is_waited_for(
    admin: KubeApi, namespace: str, start_operator: StartOperator, proxy: FaultProxy, through_proxy: Path
) -> None:
    operator = start_operator(kubeconfig=through_proxy)
    await admin.create(manifest(namespace))
    await wait_ready(admin, namespace)
    proxy.faults.away = True
    await instances.until(lambda: not _leads(operator), "the Lease runs out")
    await edit(admin, namespace, {"app": {"replicas": 3}})
    await admin.delete(path("Service", namespace, "shop-app"))
    assert operator.probe("livez") == 200, "a restart would not bring the API server back"
    proxy.faults.away = False
    await _reached(admin, namespace, 3)
    await admin.wait(path("Service", namespace, "shop-app"), bool, 60)
    await wait_ready(admin, namespace)
    assert operator.running


async def test_probes_answer_while_the_api_server_was_never_seen(
    start_operator: StartOperator, proxy: FaultProxy, through_proxy: Path
) -> None:
    proxy.faults.away = True
    operator = start_operator(kubeconfig=through_proxy, wait=False)
    operator.wait_probe("livez", 200)
    assert operator.probe("readyz") == 503
    proxy.faults.away = False
    operator.wait_probe("readyz", 200, timeout=60)


async def test_an_expired_token_is_survived(
    admin: KubeApi, namespace: str, start_operator: StartOperator, proxy: FaultProxy, through_proxy: Path
) -> None:
    """kopf's trap 16: it would end for good, or stay deaf."""
    operator = start_operator(kubeconfig=through_proxy)
    await admin.create(manifest(namespace))
    await wait_ready(admin, namespace)
    proxy.faults.unauthorized = True

    await instances.until(lambda: not _leads(operator), "the Lease runs out")
    await edit(admin, namespace, {"app": {"replicas": 3}})
    proxy.faults.unauthorized = False
    await _reached(admin, namespace, 3)
    assert operator.running


async def test_silent_watches_of_an_answering_api_server_fail_livez(
    admin: KubeApi, namespace: str, start_operator: StartOperator, proxy: FaultProxy, through_proxy: Path
) -> None:
    """kopf's traps 1 and 15."""
    operator = start_operator(kubeconfig=through_proxy, settings={"CHATBOT_WATCH_SILENCE_SECONDS": "30"})
    await admin.create(manifest(namespace))
    await wait_ready(admin, namespace)
    proxy.watches_flow.clear()
    operator.wait_probe("livez", 503, timeout=90)
    proxy.watches_flow.set()
    operator.wait_probe("livez", 200, timeout=60)
    await _handled(admin, namespace, 3)


async def test_many_instances_cost_no_write_after_a_restart(
    admin: KubeApi, namespace: str, start_operator: StartOperator, audit: AuditLog
) -> None:
    """kopf's trap 11: a start must not be a storm of writes."""
    count = 20
    first = start_operator()
    for number in range(count):
        await admin.create(manifest(namespace, f"n{number}"))
    for number in range(count):
        await wait_ready(admin, namespace, f"n{number}", 240)
    first.terminate()
    audit.mark()
    second = start_operator()
    await instances.until(lambda: instances.passes(second, "steady") >= count, "every instance was looked at")
    assert await instances.changed_by(audit, admin, OPERATOR_USER) == []


def _run(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CHATBOT_", "POD_"))}
    command = [sys.executable, "-m", "chatbot_operator.main"]
    settings = {**clean, "PYTHONPATH": str(ROOT / "operator"), **environment}
    return subprocess.run(command, env=settings, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, "CHATBOT_POSTGRES_IMAGE"),
        ({"CHATBOT_POSTGRES_IMAGE": "p", "CHATBOT_REDIS_IMAGE": "r", "KUBECONFIG": "/nonexistent"}, "credentials"),
    ],
)
def test_a_process_that_was_started_wrongly_says_so_in_one_line_and_ends_with_2(environment: dict[str, str], named: str) -> None:
    ended = _run({"CHATBOT_PROBE_PORT": "0", "CHATBOT_METRICS_PORT": "0", **environment})
    assert ended.returncode == 2
    assert named in ended.stderr.strip().splitlines()[-1]
