"""Whom the uninstallation releases, and what it says of those that it leaves. Needs nothing."""

import json
import shlex
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, cast

import pytest

from chatbot_operator.cli.retire import Operator, Retirement
from chatbot_operator.constants import FINALIZER
from chatbot_operator.kube.client import KubeClient, Page
from chatbot_operator.model.objects import ObjectKey
from tests.unit.operator.engine.fakes import FakeApi, live_instance

OTHERS = "team.example/keep"


class Api(FakeApi):
    """Lists instances too, and takes off what a patch removes."""

    async def list_pages(self, kind: str, namespace: str = "", **_: Any) -> AsyncIterator[Page]:
        wanted = [live for key, live in self.objects.items() if key.kind == kind and namespace in ("", key.namespace)]
        yield Page(wanted, "1")

    async def json_patch(self, key: ObjectKey, operations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        live = await super().json_patch(key, operations)
        live["metadata"] = {**live["metadata"], "finalizers": applied(live["metadata"]["finalizers"], operations)}
        return live

    def finalizers(self, namespace: str) -> list[str]:
        found: list[str] = self.objects[ObjectKey("ChatbotInstance", namespace, "shop")]["metadata"]["finalizers"]
        return found


def applied(finalizers: list[str], operations: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return finalizers after the operations of a JSON patch on them."""
    left = list(finalizers)
    for operation in operations:
        head, _, number = operation["path"].rpartition("/")
        if head != "/metadata/finalizers":
            continue
        if operation["op"] == "test":
            assert left[int(number)] == operation["value"]
        else:
            del left[int(number)]
    return left


@pytest.fixture
def api() -> Api:
    made = Api()
    for namespace in ("team", "elsewhere"):
        made.put(live_instance(metadata={"namespace": namespace, "uid": f"uid-{namespace}", "finalizers": [OTHERS, FINALIZER]}))
    return made


async def retire(api: Api, *watched: str) -> tuple[int, list[str]]:
    """Run the command; return how many were released and what was said."""
    said: list[str] = []
    operator = Operator("chatbot-operator", "chatbot-operator", "chatbot-operator", watched)
    released = await Retirement(cast(KubeClient, api), operator, said.append, timeout_seconds=5).run()
    return released, said


async def test_without_a_list_of_namespaces_every_instance_is_released(api: Api) -> None:
    released, said = await retire(api)
    assert released == 2
    assert [api.finalizers(namespace) for namespace in ("team", "elsewhere")] == [[OTHERS], [OTHERS]]
    assert not any("is left" in line for line in said)


async def test_an_instance_of_a_namespace_that_is_not_watched_is_left_and_named(api: Api) -> None:
    released, said = await retire(api, "team")
    assert released == 1
    assert api.finalizers("team") == [OTHERS]
    assert api.finalizers("elsewhere") == [OTHERS, FINALIZER]
    assert [line.partition(" is left")[0] for line in said if "is left" in line] == ["ChatbotInstance elsewhere/shop"]


async def test_the_command_that_is_said_frees_the_instance(api: Api) -> None:
    _, said = await retire(api, "team")
    command = next(line.partition("serves it: ")[2] for line in said if "is left" in line)
    *words, patch = shlex.split(command)
    assert words == ["kubectl", "-n", "elsewhere", "patch", "chatbotinstance", "shop", "--type=json", "-p"]
    assert applied([OTHERS, FINALIZER], json.loads(patch)) == [OTHERS]


async def test_an_instance_that_nobody_holds_is_not_named(api: Api) -> None:
    api.put(live_instance(metadata={"namespace": "elsewhere", "uid": "uid-elsewhere", "finalizers": [OTHERS]}))
    _, said = await retire(api, "team")
    assert not any("is left" in line for line in said)
