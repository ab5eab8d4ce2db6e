"""Makes the operator's own API client for tests, with whatever kubeconfig the test wants."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from chatbot_operator.kube.client import KubeClient


def allow() -> None:
    """A guard that lets every mutation pass."""


async def connect(kubeconfig: Path, guard: Callable[[], None] = allow, counts: Counter[tuple[str, int]] | None = None) -> KubeClient:
    """Return a client; `counts` counts (verb, status)."""
    tally: Counter[tuple[str, int]] = Counter() if counts is None else counts

    def observe(verb: str, status: int) -> None:
        tally[verb, status] += 1

    with mock.patch.dict(os.environ, {"KUBECONFIG": str(kubeconfig)}):
        return await KubeClient.connect(guard, observe)
