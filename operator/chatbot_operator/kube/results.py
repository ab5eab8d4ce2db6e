"""Reads what a Job said with its last act: the JSON in its pod's termination message (docs/runtime-contract.md)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from chatbot_operator.errors import ResultUnreadable
from chatbot_operator.logging import redact
from chatbot_operator.model.objects import JobResult

_REASON: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,127}")
"""It becomes the reason of conditions and Events: what these do not take would have the API server refuse the whole status."""


@dataclass(frozen=True, slots=True)
class PodResult:
    """What the pod of a Job left. `result` is None when its message is missing or not by contract."""

    job_uid: str
    finished_at: str
    result: JobResult | None


def parse_result(message: str) -> JobResult:
    """Return the Job result that a termination message holds. Its message becomes public: what looks like a secret in it is replaced.

    Raises:
        ResultUnreadable: It is not one JSON object with version 1, job, outcome and a CamelCase reason.
    """
    try:
        data = orjson.loads(message)
    except orjson.JSONDecodeError:
        raise ResultUnreadable("the termination message is not JSON") from None
    if not isinstance(data, dict) or data.get("version") != 1:
        raise ResultUnreadable("the termination message is not a Job result of version 1")
    if data.get("outcome") not in ("Succeeded", "Failed"):
        raise ResultUnreadable("the outcome is neither Succeeded nor Failed")
    if not all(isinstance(data.get(name), str) and data[name] for name in ("job", "reason")):
        raise ResultUnreadable("job or reason is missing")
    if not _REASON.fullmatch(data["reason"]):
        raise ResultUnreadable("the reason is not one CamelCase word of letters and digits, at most 128")
    return JobResult(data["outcome"], data["reason"], redact(str(data.get("message", ""))), data)


def observe_pod_result(pod: Mapping[str, Any]) -> PodResult | None:
    """Return what a pod of a Job left behind, or None for a pod that still runs or belongs to no Job."""
    job_uid = next((str(owner["uid"]) for owner in pod["metadata"].get("ownerReferences") or () if owner.get("kind") == "Job"), "")
    if not job_uid:
        return None
    for container in pod.get("status", {}).get("containerStatuses") or ():
        ended = container.get("state", {}).get("terminated")
        if ended:
            return PodResult(job_uid, str(ended.get("finishedAt") or ""), _read(str(ended.get("message") or "")))
    return None


def _read(message: str) -> JobResult | None:
    try:
        return parse_result(message)
    except ResultUnreadable:
        return None
