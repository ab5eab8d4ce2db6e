"""The API server is away for a minute, with the Lease that the chart sets: nobody restarts, nothing is lost, nobody hammers at the door."""

import asyncio
import time
from pathlib import Path

from tests.support import instances
from tests.support.faultproxy import FaultProxy
from tests.support.fixtures import StartOperator
from tests.support.instances import edit, manifest, wait_ready
from tests.support.kubeapi import KubeApi, path

AWAY_SECONDS = 60.0
BACK_SECONDS = 30.0
LINES = 600


def _leads(metrics: str) -> bool:
    return "chatbot_operator_lease_is_leader 1.0" in metrics


async def test_a_minute_without_the_api_server_is_waited_for_and_made_up_for(
    admin: KubeApi, namespace: str, start_operator: StartOperator, proxy: FaultProxy, through_proxy: Path
) -> None:
    settings = {"CHATBOT_LEASE_SECONDS": "12", "CHATBOT_LOG_LEVEL": "info"}
    operator = start_operator(kubeconfig=through_proxy, settings=settings)
    await admin.create(manifest(namespace))
    await wait_ready(admin, namespace)
    said = len(operator.log.read_text().splitlines())

    proxy.faults.away = True
    gone = time.monotonic()
    await edit(admin, namespace, {"app": {"replicas": 3}})
    await admin.delete(path("Service", namespace, "shop-app"))
    while time.monotonic() - gone < AWAY_SECONDS:
        assert operator.probe("livez") == 200, "a restart would not bring the API server back"
        await asyncio.sleep(1)
    assert not _leads(operator.metrics()), "a Lease that could not be renewed is no Lease"
    assert len(operator.log.read_text().splitlines()) - said < LINES, "it hammers at the door"

    proxy.faults.away = False
    back = time.monotonic()
    await admin.wait(path("Deployment", namespace, "shop-app"), lambda live: live["spec"]["replicas"] == 3, BACK_SECONDS, "the edit")
    await admin.wait(path("Service", namespace, "shop-app"), bool, BACK_SECONDS, "the repair")
    await wait_ready(admin, namespace)
    assert time.monotonic() - back < BACK_SECONDS
    assert operator.running
    assert _leads(operator.metrics())
    assert instances.passes(operator) > 0
