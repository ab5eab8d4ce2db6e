"""What can never succeed costs little: bounded requests in flight while many instances fail at once, and few requests while they wait."""

import asyncio
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from tests.support.audit import AuditLog, tally
from tests.support.fixtures import OPERATOR_USER, StartOperator
from tests.support.instances import manifest
from tests.support.kubeapi import KubeApi, path

INSTANCES = 20
PASSES = 4
QUIET_SECONDS = 10.0


def _requests(audit: AuditLog, namespace: str) -> Iterator[tuple[datetime, datetime]]:
    """Yield arrival and end of each request of a pass in a namespace; lists and watches serve all passes."""
    for line in audit.tail(OPERATOR_USER, 1_000_000):
        event: dict[str, Any] = json.loads(line)
        if (
            event["stage"] == "ResponseComplete"
            and event["verb"] not in ("list", "watch")
            and event.get("objectRef", {}).get("namespace") == namespace
        ):
            yield datetime.fromisoformat(event["requestReceivedTimestamp"]), datetime.fromisoformat(event["stageTimestamp"])


def _most_at_once(spans: Iterator[tuple[datetime, datetime]]) -> int:
    moments = sorted(moment for began, ended in spans for moment in ((ended, -1), (began, 1)))
    running = most = 0
    for _, step in moments:
        running += step
        most = max(most, running)
    return most


def _tries(live: dict[str, Any]) -> int:
    return int(live.get("status", {}).get("retry", {}).get("attempts", 0))


async def test_children_that_are_refused_for_ever_make_no_storm(
    admin: KubeApi, namespace: str, start_operator: StartOperator, audit: AuditLog
) -> None:
    quotas = f"/api/v1/namespaces/{namespace}/resourcequotas"
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"services": "0"}}}
    status, answer = await admin.request("POST", quotas, quota)
    assert status < 300, answer
    await admin.wait(f"{quotas}/none", lambda live: live.get("status", {}).get("hard"), what="the quota counts")
    for number in range(INSTANCES):
        await admin.create(manifest(namespace, f"n{number}"))
    start_operator(settings={"CHATBOT_MAX_CONCURRENT_PASSES": str(PASSES)})
    for number in range(INSTANCES):
        await admin.wait(path("ChatbotInstance", namespace, f"n{number}"), lambda live: _tries(live) >= 4, 120, "four tries")

    audit.mark()
    await asyncio.sleep(QUIET_SECONDS)
    seen = [each for each in await audit.requests(admin, OPERATOR_USER) if each.namespace == namespace and each.verb != "watch"]
    # After four tries the next is 16 s away or more: at most one falls into this time, with its write of the status.
    refused = [each for each in seen if each.code >= 400]
    assert len(seen) <= 6 * INSTANCES, tally(seen)
    assert max(tally(refused).values(), default=0) <= 3 * INSTANCES, "three Services, each tried once"
    # A request ends in the log a moment after its answer was sent, when the next one of the same pass may have come.
    assert _most_at_once(_requests(audit, namespace)) <= 2 * PASSES < INSTANCES
