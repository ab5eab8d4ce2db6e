"""Live objects for the tests of `kube/`, and a clock that moves when told."""

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

Live = dict[str, Any]


class FakeClock:
    """A clock that only moves when told."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


def live(kind: str, name: str, version: int, *, instance: str = "bot", uid: str = "", owner: Live | None = None, **fields: Any) -> Live:
    """Return a live object of an instance in namespace `shop`."""
    metadata: Live = {
        "name": name,
        "namespace": "shop",
        "uid": uid or f"uid-{name}",
        "resourceVersion": str(version),
        "labels": {"chatbotops.io/instance": instance, "chatbotops.io/instance-uid": f"uid-of-{instance}"},
    }
    if owner:
        metadata["ownerReferences"] = [{**owner, "controller": True}]
    return {"kind": kind, "metadata": metadata, **fields}


def job(version: int, *, ended: str = "", uid: str = "uid-job") -> Live:
    """Return a Job named `job`; `ended` is Complete or Failed."""
    conditions = [{"type": ended, "status": "True", "reason": "BackoffLimitExceeded" if ended == "Failed" else ""}] if ended else []
    return live("Job", "job", version, uid=uid, spec={}, status={"conditions": conditions, "active": 0 if ended else 1})


def job_pod(
    version: int, message: str | None, *, name: str = "job-x", job_uid: str = "uid-job", finished: str = "2026-01-01T00:00:00Z"
) -> Live:
    """Return a pod of the Job; a message means that its container ended with that termination message."""
    state = {"running": {}} if message is None else {"terminated": {"exitCode": 0, "message": message, "finishedAt": finished}}
    status = {"phase": "Running" if message is None else "Succeeded", "containerStatuses": [{"name": "main", "state": state}]}
    return live("Pod", name, version, owner={"kind": "Job", "name": "job", "uid": job_uid}, spec={"containers": []}, status=status)


def result(outcome: str = "Succeeded", reason: str = "Migrated") -> str:
    """Return a termination message by contract."""
    return orjson.dumps({"version": 1, "job": "migrate", "outcome": outcome, "reason": reason, "message": "0001 -> 0002"}).decode()
