"""Waits for our own kinds: kopf scans once at its start and would stay deaf to a CRD that is established later."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import structlog

from chatbot_operator.constants import GROUP, VERSION
from chatbot_operator.errors import KubeError
from chatbot_operator.kube.client import KubeClient
from chatbot_operator.kube.kinds import BACKUP, CRD, INSTANCE

OWN_CRDS: Final = tuple(f"{kind.plural}.{GROUP}" for kind in (INSTANCE, BACKUP))
POLL_SECONDS: Final = 1.0

_log = structlog.get_logger(__name__)


async def wait_established(client: KubeClient, names: Sequence[str] = OWN_CRDS, *, poll_seconds: float = POLL_SECONDS) -> None:
    """Wait, as long as it takes, until every CRD is Established and serves our version.

    What is missing is logged once per reason; API errors are waited out too.
    """
    for name in names:
        said = ""
        while True:
            reason = await _missing(client, name)
            if not reason:
                break
            if reason != said:
                _log.warning("crd.waiting", crd=name, reason=reason, hint="install the chart's CRDs of this version")
                said = reason
            await asyncio.sleep(poll_seconds)


async def _missing(client: KubeClient, name: str) -> str:
    try:
        live = await client.get(CRD.kind, "", name)
    except KubeError as error:
        return error.reason
    return missing_of(live)


def missing_of(crd: Mapping[str, Any]) -> str:
    """Return what keeps a CRD from being usable by this operator: `VersionNotServed`, `NotEstablished` or nothing."""
    if not any(version.get("name") == VERSION and version.get("served") for version in crd.get("spec", {}).get("versions") or ()):
        return "VersionNotServed"
    conditions = {entry["type"]: entry["status"] for entry in crd.get("status", {}).get("conditions") or ()}
    return "" if conditions.get("Established") == "True" else "NotEstablished"
