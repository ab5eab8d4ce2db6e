"""What a Job says with its last act: JSON in the termination log (docs/runtime-contract.md, Job results)."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

FAULTS = (OSError, ValueError, LookupError, subprocess.SubprocessError)
"""What nobody foresaw, but must be reported: a Job that says nothing is run again and again."""
MAX_RESULT_BYTES = 4096
"""What the kubelet keeps of a termination log."""


def job_result(job: str, outcome: str, reason: str, message: str, **data: Any) -> dict[str, Any]:
    """Return the result of a Job; `outcome` is Succeeded or Failed, `reason` CamelCase, `message` for people and without any secret."""
    return {"version": 1, "job": job, "outcome": outcome, "reason": reason, "message": message[:1024], **data}


def fits(result: dict[str, Any]) -> bool:
    """Return whether the kubelet would keep all of a result."""
    return len(json.dumps(result).encode()) <= MAX_RESULT_BYTES


def report(path: Path, result: dict[str, Any]) -> int:
    """Print the result, write it where the kubelet reads it, and return the exit code.

    A result that can't be written is seen by the operator as missing.
    """
    text = json.dumps(result)
    sys.stdout.write(text + "\n")
    if not fits(result):
        text = json.dumps(result | {"message": ""})
    try:
        path.write_text(text)
    except OSError as error:
        sys.stderr.write(f"{result['job']}: the result can't be written to {path}: {error.strerror}\n")
    return 0 if result["outcome"] == "Succeeded" else 1
