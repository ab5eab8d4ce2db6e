"""Needs the control plane. Every manifest of the golden files is canonical: what the API server stores has the rendered fingerprint."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import yaml

from chatbot_operator.kube.client import KubeClient
from chatbot_operator.model.fingerprint import fingerprint, project_owned
from chatbot_operator.model.objects import key_of
from tests.support.fixtures import OperatorAccount
from tests.support.golden import CASES, GOLDEN
from tests.support.kubeapi import KubeApi
from tests.support.kubeclient import connect
from tests.support.watcher import watching

Manifest = dict[str, Any]


@pytest.fixture
async def client(operator_account: OperatorAccount) -> AsyncIterator[KubeClient]:
    made = await connect(operator_account.kubeconfig)
    yield made
    await made.close()


def recorded(case: str, namespace: str, owner_uid: str) -> list[Manifest]:
    """Return the manifests of a golden file in another namespace, owned by an instance that exists."""
    manifests: list[Manifest] = list(yaml.safe_load_all((GOLDEN / "expected" / f"{case}.yaml").read_text()))
    for manifest in manifests:
        metadata = manifest["metadata"]
        metadata["namespace"] = namespace
        metadata["labels"]["chatbotops.io/instance-uid"] = owner_uid
        for owner in metadata.get("ownerReferences", ()):
            owner["uid"] = owner_uid
    return manifests


async def owner_of(admin: KubeApi, namespace: str) -> str:
    """Create the instance that the manifests name as their owner (the garbage collector would take them otherwise); return its uid."""
    instance = {
        "apiVersion": "chatbotops.io/v1alpha1",
        "kind": "ChatbotInstance",
        "metadata": {"name": "demo", "namespace": namespace},
        "spec": {"release": {"version": "1.0.0", "image": f"localhost/test@sha256:{'a' * 64}"}},
    }
    return str((await admin.apply(instance, namespace))["metadata"]["uid"])


@pytest.mark.parametrize("case", CASES)
async def test_what_is_stored_is_what_was_rendered_and_stays_so(client: KubeClient, admin: KubeApi, namespace: str, case: str) -> None:
    """Manifests that the API server completes, drops or rewrites would be applied again in every pass, for ever."""
    uid = await owner_of(admin, namespace)
    manifests = recorded(case, namespace, uid)
    wrong = {}
    for manifest in manifests:
        live = await client.apply(manifest)
        if fingerprint(project_owned(live)) != fingerprint(manifest):
            wrong[str(key_of(manifest))] = differences(project_owned(live), manifest)
    assert manifests
    assert not wrong

    wanted = {key_of(manifest): fingerprint(manifest) for manifest in manifests}
    async with watching(client, namespace) as seen:
        found = {key: child.fingerprint for key, child in seen.reflectors.children(namespace, "demo").items()}
        assert wanted.items() <= found.items(), "another process would see no drift either"
    before = {key: await client.get(key.kind, namespace, key.name) for key in wanted}
    for manifest in manifests:
        live = await client.apply(manifest, before[key_of(manifest)]["metadata"]["uid"])
        assert live["metadata"].get("generation") == before[key_of(manifest)]["metadata"].get("generation")
        assert fingerprint(project_owned(live)) == fingerprint(manifest)


def differences(stored: Any, rendered: Any, where: str = "") -> list[str]:
    """Return the paths at which a projection differs from what was rendered."""
    if isinstance(stored, dict) and isinstance(rendered, dict):
        skipped = ("apiVersion", "name", "namespace") if where in ("", ".metadata") else ()
        names = [name for name in {*stored, *rendered} if name not in skipped]
        return [each for name in sorted(names) for each in differences(stored.get(name), rendered.get(name), f"{where}.{name}")]
    if isinstance(stored, list) and isinstance(rendered, list) and len(stored) == len(rendered):
        return [each for n, pair in enumerate(zip(stored, rendered, strict=True)) for each in differences(*pair, f"{where}[{n}]")]
    return [] if stored == rendered else [f"{where}: {rendered!r} is stored as {stored!r}"]
