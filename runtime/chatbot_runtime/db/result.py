"""The Job result of docs/runtime-contract.md: one JSON object in the termination log, which is all that anybody learns of a Job."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import orjson
import structlog

LIMIT = 4096
MESSAGE_MAX = 1000

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class MigrateResult:
    """What a migration did.

    Attributes:
        outcome: whether the schema now suits this image.
        reason: CamelCase reason of the contract.
        message: one sentence without secrets.
        revision_before: revision when the lock was taken; None if it could not be read, empty text for an empty database.
        revision: revision at the end, read while holding the lock.
    """

    outcome: Literal["Succeeded", "Failed"]
    reason: str
    message: str
    revision_before: str | None = None
    revision: str | None = None

    def document(self) -> bytes:
        """Return the JSON of at most 4096 bytes."""
        fields = {
            "version": 1,
            "job": "migrate",
            "outcome": self.outcome,
            "reason": self.reason,
            "message": self.message[:MESSAGE_MAX],
            "revisionBefore": self.revision_before,
            "revision": self.revision,
        }
        return orjson.dumps({name: value for name, value in fields.items() if value is not None})[:LIMIT]


def write_result(result: MigrateResult, path: Path) -> None:
    """Write the result; a log line holds it too, for when the file can't be written or is lost with the node."""
    log.info("job_result", result=result.document().decode())
    try:
        path.write_bytes(result.document())
    except OSError as error:
        log.warning("job_result_not_written", path=str(path), error=str(error))
