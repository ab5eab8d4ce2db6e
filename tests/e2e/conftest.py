"""Needs a real node: one cluster a session with the operator installed by Helm, and the quickstart chatbot beside a local provider."""

import os
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import pytest

from testbed.demo import Demo
from testbed.progress import Progress
from tests.support import artefacts
from tests.support.cluster import Cluster, running_cluster
from tests.support.fixtures import FAILED, OPERATOR_NAMESPACE, OPERATOR_USER, pytest_runtest_makereport  # noqa: F401 - a hook is found by its name
from tests.support.site import Site

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in this folder; pods take longer than unit tests."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A control plane with a real node (or the one that runs in `TESTBED_DIR`)."""
    with running_cluster("--node") as running:
        yield running


@pytest.fixture(scope="session")
def demo(cluster: Cluster) -> Demo:
    """The steps of the demo, with the images in the node and the operator installed by Helm."""
    demo = Demo(cluster.settings, Progress())
    images = demo.load_images()
    demo.install_operator(images)
    return demo


@pytest.fixture(scope="session")
def quickstart(cluster: Cluster, demo: Demo) -> Site:
    """The chatbot of `manifests/samples/quickstart.yaml`, once it has become Ready."""
    demo.apply_sample()
    site = Site(cluster, demo.namespace, demo.name)
    site.wait_ready(420)
    return site


def leave_artefacts(request: pytest.FixtureRequest, cluster: Cluster, namespace: str) -> None:
    """Gather what is known about a namespace and the operator if the test failed."""
    if request.node.stash.get(FAILED, False):
        folder = artefacts.folder_of(request.node.nodeid)
        artefacts.collect(cluster, namespace, OPERATOR_USER, [], folder)
        artefacts.collect_logs(cluster, OPERATOR_NAMESPACE, folder)


@pytest.fixture
def evidence(request: pytest.FixtureRequest, cluster: Cluster, demo: Demo) -> Iterator[None]:
    """Artefacts of the quickstart chatbot, if the test fails."""
    yield
    leave_artefacts(request, cluster, demo.namespace)


@pytest.fixture
def site(request: pytest.FixtureRequest, evidence: None) -> Site:
    """The quickstart chatbot, Ready at the start of each test; a failed test leaves artefacts."""
    quickstart: Site = request.getfixturevalue("quickstart")  # only now, so that one that never gets Ready leaves artefacts as well
    quickstart.wait_ready()
    return quickstart


@pytest.fixture
def namespace(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[str]:
    """A namespace for another chatbot, with Pod Security `restricted` enforced; its chatbots are deleted with it."""
    from testbed.api import Api
    from tests.support.kubeapi import path

    api, name = Api(cluster.admin), f"e2e-{os.getpid()}-{crc32(request.node.nodeid.encode()):08x}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    api.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    yield name
    leave_artefacts(request, cluster, name)
    api.delete(path("Namespace", name=name))
