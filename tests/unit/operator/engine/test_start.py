"""Needs nothing: the order in which a process starts its parts. kopf looks for our kinds only once and stays deaf to a later one."""

import asyncio
from functools import partial
from typing import Any

import pytest

from chatbot_operator import main
from chatbot_operator.config import Config
from chatbot_operator.context import Context, Loop
from chatbot_operator.errors import NotFound
from chatbot_operator.kube.crds import wait_established
from tests.unit.operator.engine.fakes import FakeClock

MISSING = None
NOT_SERVED = {"spec": {"versions": [{"name": "v1", "served": True}]}}
OURS = {"spec": {"versions": [{"name": "v1alpha1", "served": True}]}}
NOT_ESTABLISHED = {**OURS, "status": {"conditions": [{"type": "Established", "status": "False"}]}}
ESTABLISHED = {**OURS, "status": {"conditions": [{"type": "Established", "status": "True"}]}}


class Parts:
    """Every part of a process at once; it notes which were started. The CRD is as the test says."""

    def __init__(self) -> None:
        self.crd: dict[str, Any] | None = MISSING
        self.asked = 0
        self.started: list[str] = []

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        self.asked += 1
        if self.crd is None:
            raise NotFound("none", status=404)
        return self.crd

    def part(self, name: str) -> "Part":
        return Part(name, self.started)


class Part:
    """A part that runs for ever once it is started."""

    namespaces = ("",)

    def __init__(self, name: str, started: list[str]) -> None:
        self._name, self._started = name, started

    async def run(self) -> None:
        self._started.append(self._name)
        await asyncio.Event().wait()

    async def acquire(self) -> None:
        self._started.append(self._name)

    async def wait_synced(self) -> list[str]:
        return []

    def size(self) -> int:
        return 0

    def is_leader(self) -> bool:
        return False

    def blind(self, namespace: str) -> tuple[str, ...]:
        return ()

    def __len__(self) -> int:
        return 0

    @property
    def store(self) -> "Part":
        return self


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_kopf_is_started_only_once_our_kinds_are_established(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "wait_established", partial(wait_established, poll_seconds=0))
    parts = Parts()
    loops = tuple(Loop(parts.part(f"{kind} inbox"), parts.part("workers"), parts.part("relist")) for kind in ("instances", "backups"))  # type: ignore[arg-type]
    names = ("elector", "reflectors", "shell")
    context = Context(client=parts, loops=loops, **{name: parts.part(name) for name in names})  # type: ignore[arg-type]
    config = Config.from_env({"CHATBOT_POSTGRES_IMAGE": "p:1", "CHATBOT_REDIS_IMAGE": "r:1"})
    process = main.Process(config, FakeClock())
    async with process._supervised():
        process._spawn("start", process._start(context))
        for crd in (MISSING, NOT_SERVED, NOT_ESTABLISHED):
            parts.crd, asked = crd, parts.asked
            await settle()
            assert parts.asked > asked
            assert parts.started == []
            assert process._health.ready_reason == "WaitingForCrds"
        parts.crd = ESTABLISHED
        await settle()
        assert "shell" in parts.started
        assert process._health.ready_reason == ""
