"""B1 to B5: what the operator costs and how fast it is, seen from outside: watches, the audit log, /proc and its metrics."""

import asyncio
import contextlib
import random
import re
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bench.floor import owned_objects
from bench.instances import Watched, create, wait_ready, watching
from bench.rig import NAMESPACE, NAMESPACES, Rig, quantile, usage
from tests.support.audit import Request, tally
from tests.support.kubeapi import path
from tests.support.operatorprocess import OperatorProcess

_HEARTBEAT = ("leases", "events")
_REPAIRED = ("Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy", "StatefulSet")
REST_SECONDS = 15
Result = dict[str, Any]


def metric(operator: OperatorProcess, name: str) -> float:
    """Return the sum of a metric over its labels; 0 while the process does not answer."""
    try:
        text = operator.metrics()
    except OSError:
        return 0.0
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if re.match(rf"{name}(\{{|\s)", line))


async def start(operator: OperatorProcess) -> None:
    """Start a process and wait until it is ready and leads."""
    operator.start()
    await asyncio.to_thread(operator.wait_probe, "readyz", 200, 60)
    await until(lambda: metric(operator, "chatbot_operator_lease_is_leader") == 1, 60, "leadership")


async def until(condition: Any, seconds: float, what: str) -> None:
    """Poll a condition of the operator's metrics.

    Raises:
        RuntimeError: Not within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(condition):
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {seconds:.0f} s for {what}")
        await asyncio.sleep(0.02)


async def b1_create(rig: Rig, operator: OperatorProcess, count: int, prefix: str = "n") -> Result:
    """Create `count` instances; how long until all are Ready, and at what cost."""
    rig.audit.mark()
    before = usage(operator.pid)
    async with watching(rig.api) as watched:
        started = time.monotonic()
        await create(rig, watched, count, prefix)
        await wait_ready(watched, count, 120 + 2 * count)
        elapsed = time.monotonic() - started
    after = usage(operator.pid)
    requests = await rig.audit.requests(rig.api, rig.user)
    objects = len(await owned_objects(rig.api, f"{prefix}0", NAMESPACES[0]))
    return {
        "instances": count,
        "ready_s": round(elapsed, 2),
        **_spread(watched),
        "objects_per_instance": objects,
        "requests_per_instance": round(_work(requests) / count, 2),
        "operator_cpu_s": round(after.cpu - before.cpu, 2),
        "rss_mib": round(after.rss, 1),
        "pss_mib": round(after.pss, 1),
        "requests": dict(tally(requests).most_common(25)),
        "events_per_instance": round(watched.events / count, 1),
    }


def _spread(watched: Watched) -> Result:
    seconds = watched.seconds()
    return {f"{name}_s": round(quantile(seconds, share), 2) for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}


def _work(requests: list[Request]) -> int:
    """Count requests that instances cause: not the Lease, not watches that are only renewed."""
    return sum(1 for request in requests if not request.resource.startswith("leases") and request.verb != "watch")


async def b2_idle(rig: Rig, operator: OperatorProcess, settle: float, seconds: float) -> Result:
    """Let nothing happen and count what the operator does all the same."""
    await asyncio.sleep(settle)
    rig.audit.mark()
    before = usage(operator.pid)
    await asyncio.sleep(seconds)
    after = usage(operator.pid)
    requests = await rig.audit.requests(rig.api, rig.user)
    writes = [request for request in requests if request.writes and not request.resource.startswith(_HEARTBEAT)]
    return {
        "seconds": seconds,
        "writes": len(writes),
        "requests_per_s": round(len(requests) / seconds, 3),
        "cpu_percent": round(100 * (after.cpu - before.cpu) / seconds, 2),
        "rss_mib": round(after.rss, 1),
        "pss_mib": round(after.pss, 1),
        "requests": dict(tally(requests).most_common(15)),
    }


async def b3_restart(rig: Rig, operator: OperatorProcess, count: int) -> Result:
    """Kill the only operator, start it again: from leadership to one pass of every instance.

    First comes a rest: what was measured before may still be settling, and its last status is no cost of a restart.
    """
    await asyncio.sleep(REST_SECONDS)
    operator.kill()
    rig.audit.mark()
    started = time.monotonic()
    await start(operator)
    led = time.monotonic()
    await until(
        lambda: metric(operator, "chatbot_operator_passes_total") >= count and metric(operator, "workqueue_depth") == 0, 300, "passes"
    )
    converged = time.monotonic()
    await asyncio.sleep(3)
    requests = await rig.audit.requests(rig.api, rig.user)
    writes = [request for request in requests if request.writes and not request.resource.startswith(_HEARTBEAT)]
    return {
        "instances": count,
        "lead_s": round(led - started, 2),
        "converged_after_lead_s": round(converged - led, 2),
        "writes": len(writes),
        "written": [f"{request.verb} {request.resource} {request.namespace}/{request.name}" for request in writes[:5]],
    }


async def b3_changed(rig: Rig, operator: OperatorProcess, count: int, changed: int) -> Result:
    """Change some instances while no operator runs: from leadership until these are Ready as changed."""
    operator.kill()
    chosen = [(NAMESPACES[number % len(NAMESPACES)], f"n{number}") for number in range(min(changed, count))]
    async with watching(rig.api) as watched:
        for namespace, name in chosen:
            await rig.api.patch(path("ChatbotInstance", namespace, name), {"spec": {"app": {"replicas": 3}}})
            watched.acked[namespace, name] = time.monotonic()
        await start(operator)
        led = time.monotonic()
        await wait_ready(watched, len(chosen), 300)
        return {"changed": len(chosen), "ready_after_lead_s": round(time.monotonic() - led, 2)}


async def b3_takeover(rig: Rig, leader: OperatorProcess, standby: OperatorProcess) -> Result:
    """Kill the leader beside a standby: from its last renewal to the standby's first pass."""
    standby.start()
    await asyncio.to_thread(standby.wait_probe, "readyz", 200, 60)
    leader.kill()
    lease = await rig.api.get(path("Lease", NAMESPACE, "chatbot-operator"))
    renewed = datetime.fromisoformat(lease["spec"]["renewTime"]).timestamp()
    await until(lambda: metric(standby, "chatbot_operator_passes_total") >= 1, 60, "the standby's first pass")
    return {"lease_s": lease["spec"]["leaseDurationSeconds"], "takeover_s": round(time.time() - renewed, 2)}


@dataclass
class _Repairs:
    """Deleted objects that are to come back: uid before, moment of deletion, moment of return."""

    before: dict[tuple[str, str, str], str]
    deleted: dict[tuple[str, str, str], float]
    returned: dict[tuple[str, str, str], float]


async def b5_repair(rig: Rig, deletions: int, rate: float = 2.0, seed: int = 7) -> Result:
    """Delete random children at random moments; how long until each is back."""
    chance = random.Random(seed)
    children = [
        (kind, item["metadata"]["namespace"], item["metadata"]["name"], item["metadata"]["uid"])
        for kind in _REPAIRED
        for item in await rig.api.list(kind, None, "chatbotops.io/instance")
    ]
    chosen = chance.sample(children, min(deletions, len(children)))
    repairs = _Repairs({child[:3]: child[3] for child in chosen}, {}, {})
    watchers = [asyncio.create_task(_note_returns(rig, kind, repairs)) for kind in _REPAIRED]
    await asyncio.sleep(0.5)
    for kind, namespace, name, _ in chosen:
        await asyncio.sleep(chance.expovariate(rate))
        await rig.api.delete(path(kind, namespace, name))
        repairs.deleted[kind, namespace, name] = time.monotonic()
    with contextlib.suppress(RuntimeError):  # what did not come back is a result
        await until(lambda: len(repairs.returned) == len(chosen), 30, "deleted objects")
    for watcher in watchers:
        watcher.cancel()
    await asyncio.gather(*watchers, return_exceptions=True)
    seconds = [moment - repairs.deleted[key] for key, moment in repairs.returned.items()]
    return {
        "deleted": len(chosen),
        "returned": len(seconds),
        **{f"{name}_ms": round(1000 * quantile(seconds, share), 1) for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))},
    }


async def _note_returns(rig: Rig, kind: str, repairs: _Repairs) -> None:
    version = (await rig.api.get(path(kind), limit="1"))["metadata"]["resourceVersion"]
    async for event in rig.api.watch(path(kind), version, 3600):
        metadata = event["object"]["metadata"]
        key = (kind, metadata["namespace"], metadata["name"])
        if event["type"] == "ADDED" and repairs.before.get(key, metadata["uid"]) != metadata["uid"]:
            repairs.returned.setdefault(key, time.monotonic())
