"""Needs the control plane. Every manifest that the operator renders is stored by a real API server exactly as it was rendered."""

import copy
from collections.abc import AsyncIterator
from typing import Any

import pytest

from chatbot_operator.kube.client import KubeClient
from chatbot_operator.kube.project import Projector
from chatbot_operator.model.fingerprint import fingerprint, project_owned, template_fingerprint
from chatbot_operator.model.objects import Manifest
from tests.support.cluster import Cluster
from tests.support.golden import CASES, live_manifests, run_case
from tests.support.kubeapi import KubeApi
from tests.support.kubeclient import connect
from tests.support.quantities import KNOWN


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[KubeClient]:
    made = await connect(cluster.admin)
    yield made
    await made.close()


def placed(manifest: Manifest, namespace: str) -> dict[str, Any]:
    """Return the manifest in a namespace of the test, owned by nobody, because the owner of the golden files does not exist here."""
    made = copy.deepcopy(dict(manifest))
    made["metadata"]["namespace"] = namespace
    made["metadata"].pop("ownerReferences", None)
    return made


@pytest.mark.parametrize("case", CASES)
async def test_what_is_stored_is_what_was_rendered(client: KubeClient, namespace: str, case: str) -> None:
    for rendered in live_manifests(run_case(case)):
        manifest = placed(rendered, namespace)
        live = await client.apply(manifest)
        name = f"{case} {manifest['kind']} {manifest['metadata']['name']}"
        assert fingerprint(project_owned(live)) == fingerprint(manifest), f"{name}: {project_owned(live)} is not {manifest}"
        again = await client.apply(manifest, live["metadata"]["uid"])
        assert fingerprint(project_owned(again)) == fingerprint(manifest), name
        assert again["metadata"].get("generation") == live["metadata"].get("generation"), f"{name}: a second apply changed it"
        seen = Projector().project({**live, "kind": manifest["kind"]})
        if manifest["kind"] in ("Deployment", "StatefulSet"):
            assert seen.details["template"] == seen.details["templateHash"] == template_fingerprint(manifest), name


async def test_pods_pass_pod_security_restricted(client: KubeClient, admin: KubeApi, namespace: str) -> None:
    # The namespace enforces `restricted`: the API server refuses a pod that does not pass.
    made = 0
    for rendered in live_manifests(run_case("full")):
        template = rendered.get("spec", {}).get("template")
        if template is None:
            continue
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": template["spec"]["serviceAccountName"], "namespace": namespace},
        }
        await admin.apply(account, namespace, manager="test")
        spec = {name: value for name, value in template["spec"].items() if name not in ("restartPolicy", "priorityClassName")}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": rendered["metadata"]["name"], "namespace": namespace},
            "spec": {**spec, "restartPolicy": "Never"},
        }
        await client.create(pod)
        made += 1
    assert made == 8


async def test_quantities_are_stored_as_we_write_them(admin: KubeApi, namespace: str) -> None:
    for number, (text, stored) in enumerate(KNOWN):
        quota = {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": f"q{number}", "namespace": namespace},
            "spec": {"hard": {"limits.cpu": text}},
        }
        status, live = await admin.request("POST", f"/api/v1/namespaces/{namespace}/resourcequotas", quota)
        assert status == 201, live
        assert live["spec"]["hard"]["limits.cpu"] == stored, text
