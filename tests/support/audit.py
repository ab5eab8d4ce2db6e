"""Counts what each user asked of the API server, from the audit log: exact, and free of the counted program's own claims."""

import json
import uuid
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.kubeapi import KubeApi

WRITES: Final = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(frozen=True)
class Request:
    """One request; a watch is one, however long it runs."""

    user: str
    verb: str
    """Kubernetes verb, such as `list`, `watch`, `patch`."""
    resource: str
    """Plural with subresource, such as `chatbotinstances/status`; the path for non-resources."""
    namespace: str
    name: str
    code: int
    uri: str

    @property
    def writes(self) -> bool:
        """Whether it was meant to change something."""
        return self.verb in WRITES


class AuditLog:
    """Reads the requests made since it was opened or last marked."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._offset = 0
        self.mark()

    def mark(self) -> None:
        """Forget everything up to now."""
        self._offset = self._file.stat().st_size if self._file.exists() else 0

    async def requests(self, api: KubeApi, user: str) -> list[Request]:
        """Return the finished requests of a user since the mark, oldest first.

        Sends a request of its own and reads until that shows up, so that everything answered before this call is in.
        """
        marker = uuid.uuid4().hex
        await api.get("/version", audit=marker)
        events: list[dict[str, Any]] = []
        with self._file.open() as stream:
            stream.seek(self._offset)
            while True:
                line = stream.readline()
                if not line.endswith("\n"):
                    if any(marker in event["requestURI"] for event in events):
                        break
                    continue  # the server writes the event before it answers; what is left is the disk
                events.append(json.loads(line))
        unique = {event["auditID"]: event for event in events}
        return [_request(event) for event in unique.values() if event["user"].get("username") == user]

    def tail(self, user: str, lines: int = 500) -> list[str]:
        """Return the last raw lines of a user, for a person who looks for the cause of a failure."""
        if not self._file.exists():
            return []
        return [line for line in self._file.read_text().splitlines() if user in line][-lines:]


def tally(requests: list[Request]) -> Counter[str]:
    """Count requests by `verb resource`."""
    return Counter(f"{request.verb} {request.resource}" for request in requests)


def _request(event: dict[str, Any]) -> Request:
    target = event.get("objectRef", {})
    resource = target.get("resource", event["requestURI"].partition("?")[0])
    if target.get("subresource"):
        resource += f"/{target['subresource']}"
    return Request(
        user=event["user"].get("username", ""),
        verb=event["verb"],
        resource=resource,
        namespace=target.get("namespace", ""),
        name=target.get("name", ""),
        code=event.get("responseStatus", {}).get("code", 0),
        uri=event["requestURI"],
    )
