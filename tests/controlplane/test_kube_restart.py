"""Needs the control plane, one of its own: the API server restarts, and comes back with an older store."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator

import pytest

from chatbot_operator.errors import Gone
from chatbot_operator.kube.client import KubeClient
from chatbot_operator.model.objects import ObjectKey
from testbed.api import Api
from testbed.processes import Processes
from tests.support import children
from tests.support.cluster import Cluster, find, fresh_settings, run_testbed
from tests.support.kubeclient import connect
from tests.support.watcher import Watcher, running, watching

NAMESPACE = "default"


class Plane:
    """A control plane whose parts can be stopped and started."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._processes = Processes(cluster.settings)
        self._commands: dict[str, list[str]] = {}
        for name in ("etcd", "kube-apiserver"):
            record = self._processes.record(name)
            assert record is not None
            self._commands[name] = record.argv

    def stop(self, *names: str) -> None:
        for name in names:
            self._processes.stop(name)

    def start(self, *names: str) -> None:
        for name in names:
            self._processes.start(name, self._commands[name])
        assert Api(self.cluster.admin).wait_ready(60)

    def save_store(self) -> None:
        shutil.rmtree(self.cluster.settings.directory / "saved", ignore_errors=True)
        shutil.copytree(self.cluster.settings.directory / "etcd", self.cluster.settings.directory / "saved")

    def return_to_saved(self) -> None:
        self.stop("kube-apiserver", "etcd")
        shutil.rmtree(self.cluster.settings.directory / "etcd")
        shutil.copytree(self.cluster.settings.directory / "saved", self.cluster.settings.directory / "etcd")
        self.start("etcd", "kube-apiserver")


@pytest.fixture(scope="module")
def plane() -> Iterator[Plane]:
    with fresh_settings() as settings:
        run_testbed(settings, "up", timeout=3600)
        try:
            cluster = find(settings.directory)
            assert cluster is not None
            yield Plane(cluster)
        finally:
            run_testbed(settings, "down")


@pytest.fixture
async def client(plane: Plane) -> AsyncIterator[KubeClient]:
    made = await connect(plane.cluster.admin)
    yield made
    await made.close()


async def test_a_restarted_api_server_is_followed(plane: Plane, client: KubeClient) -> None:
    await client.apply(children.service(NAMESPACE, "early"))
    doomed = await client.apply(children.service(NAMESPACE, "doomed"))
    async with watching(client, NAMESPACE) as seen:
        await asyncio.to_thread(plane.stop, "kube-apiserver")
        await asyncio.to_thread(plane.start, "kube-apiserver")
        await client.delete(ObjectKey("Service", NAMESPACE, "doomed"), doomed["metadata"]["uid"])
        await client.apply(children.service(NAMESPACE, "late"))
        await seen.until(lambda: seen.child(NAMESPACE, "Service", "late"), "what was made after the restart", 60)
        await seen.until(lambda: not seen.child(NAMESPACE, "Service", "doomed"), "the deletion after the restart", 60)
        assert seen.child(NAMESPACE, "Service", "early")


async def test_a_watch_of_a_version_that_is_gone_lists_again(plane: Plane, client: KubeClient) -> None:
    """After a restart the watch cache starts at the newest version, so a watch of an earlier one is answered 410."""
    await client.apply(children.service(NAMESPACE, "there"))
    await asyncio.to_thread(plane.stop, "kube-apiserver")
    await asyncio.to_thread(plane.start, "kube-apiserver")
    with pytest.raises(Gone):
        async for _ in client.watch("Service", NAMESPACE, resource_version="1"):
            pass
    watcher = Watcher(client, NAMESPACE)
    for _, _, stream in watcher.reflectors._streams:
        stream._version = "1"
    async with running(watcher):
        assert watcher.child(NAMESPACE, "Service", "there")


async def test_a_restored_store_whose_versions_went_back_is_believed(plane: Plane, client: KubeClient) -> None:
    """etcd restored from a backup: objects come back with versions lower than those in memory, and they are the truth."""
    kept = await client.apply(children.service(NAMESPACE, "kept"))
    plane.stop("kube-apiserver", "etcd")
    plane.save_store()
    plane.start("etcd", "kube-apiserver")
    async with watching(client, NAMESPACE, silence=10.0, seconds=5) as seen:
        for number in range(20):
            await client.merge_patch(
                ObjectKey("Service", NAMESPACE, "kept"), {"spec": {"ports": [{"name": "http", "port": 80, "targetPort": 9000 + number}]}}
            )
        await client.apply(children.service(NAMESPACE, "lost"))
        await seen.until(lambda: seen.child(NAMESPACE, "Service", "lost"), "what the backup does not hold")
        drifted = seen.child(NAMESPACE, "Service", "kept")
        assert drifted is not None

        await asyncio.to_thread(plane.return_to_saved)
        await seen.until(lambda: not seen.child(NAMESPACE, "Service", "lost"), "the loss of what was made after the backup", 60)
        back = await seen.until(
            lambda: (c := seen.child(NAMESPACE, "Service", "kept")) and c.fingerprint != drifted.fingerprint and c, "the older content", 60
        )
        assert back.uid == kept["metadata"]["uid"]
        await client.apply(children.service(NAMESPACE, "fresh"))
        await seen.until(lambda: seen.child(NAMESPACE, "Service", "fresh"), "what is made afterwards", 60)
