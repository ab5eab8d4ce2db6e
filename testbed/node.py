"""One real node: containerd, kubelet, kube-proxy, policies, DNS and volumes, in namespaces and a control group of its own."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from testbed import netns, nodeconfig, packages, provisioner
from testbed.api import Api, ApiError
from testbed.blobs import Image
from testbed.cache import require_space
from testbed.cgroups import Cgroups
from testbed.command import command_line
from testbed.containerd import NAME as CONTAINERD
from testbed.containerd import Containerd
from testbed.errors import Failed, Refused
from testbed.images import ImageStore
from testbed.netns import Network
from testbed.plane import NODE_NAME
from testbed.processes import Processes
from testbed.progress import Progress
from testbed.settings import Settings
from testbed.tools import binary

PROGRAMS: Final = ("provisioner", "coredns", "kube-router", "kube-proxy", "kubelet", CONTAINERD)
"""Everything this module starts, in the order in which it is stopped."""
_TIMEOUT: Final = 60.0


def require_root() -> None:
    """Check who asks, before even the work directory is made.

    Raises:
        Refused: not root.
    """
    if os.geteuid() != 0:
        raise Refused("A node needs root: it makes namespaces, mounts and control groups.")


def check(settings: Settings) -> None:
    """Look for what would make a node fail, before anything is changed; install missing Debian packages.

    Raises:
        Refused: no control groups, a taken route, too little disk, or packages that can't be had.
    """
    Cgroups.of(settings).check()
    require_space(settings.directory, 6, "a node with its images")
    packages.ensure(packages.NODE_PROGRAMS | packages.IMAGE_PROGRAMS, Progress().say)
    netns.check(settings)


def up(settings: Settings, network: Network, progress: Progress) -> None:
    """Start the node beside a running control plane and wait until it is Ready and answers DNS.

    Raises:
        Failed: a program ended or did not get ready; the message shows its log.
    """
    node_programs = {name: binary(settings, name, progress) for name in ("kubelet", "kube-proxy", "kube-router", "coredns")}
    store = ImageStore(settings.cache, progress.say)
    pause = store.ensure_pause()
    directory = _directory(settings)
    cgroups = Cgroups.of(settings)
    cgroups.create()
    _write_files(settings, directory, cgroups.name, pause.name)
    processes = Processes(settings)

    def launch(name: str, *arguments: str) -> None:
        processes.start(name, [str(node_programs[name]), *arguments], prefix=network.node_prefix)

    with progress.step("containerd"):
        containerd = Containerd(directory, processes, network.node_prefix)
        containerd.start()
        containerd.import_images(store.blobs, [pause])
    with progress.step("kubelet, kube-proxy, network policies, DNS and volumes"):
        _make_bridge(network)
        directories = (f"--root-dir={directory / 'kubelet'}", f"--cert-dir={directory / 'kubelet-pki'}")
        identity = (f"--kubeconfig={settings.kubeconfig('node')}", f"--hostname-override={NODE_NAME}", f"--node-ip={network.address}")
        launch("kubelet", f"--config={directory / 'kubelet.json'}", *identity, *directories)
        launch("kube-proxy", f"--config={directory / 'proxy.json'}")
        launch("coredns", "-conf", str(directory / "Corefile"))
        provisioner.start(settings, processes, network.node_prefix, directory / "volumes")
        api = Api.from_settings(settings)
        for storage_class in nodeconfig.render_storage_classes(provisioner.NAME):
            api.apply(f"/apis/storage.k8s.io/v1/storageclasses/{storage_class['metadata']['name']}", storage_class)
        _wait(lambda: _node_ready(api), processes, "the node to be Ready")
        launch("kube-router", *nodeconfig.policy_arguments(settings, NODE_NAME))  # ends when it does not find its Node
        _wait(_dns_ready, processes, "cluster DNS")


def load_images(settings: Settings, store: ImageStore, images: Sequence[Image]) -> list[str]:
    """Bring built images into the running node; return the names of those that it did not have.

    Raises:
        Refused: no node runs in this work directory.
        Failed: the import failed.
    """
    if not runs(settings):
        raise Refused(f"No node runs in {settings.directory}; start one with `{command_line('up --node')}`.")
    containerd = Containerd(_directory(settings), Processes(settings), netns.ensure(settings).node_prefix)
    return containerd.import_images(store.blobs, images)


def runs(settings: Settings) -> bool:
    """Whether a node runs in this work directory."""
    processes = Processes(settings)
    return processes.alive(netns.HOLDER) and processes.alive(CONTAINERD)


def down(settings: Settings) -> None:
    """Stop the node completely: programs, containers, control groups, volumes; images stay. Safe to call at any time and after a crash."""
    processes = Processes(settings)
    cgroups = Cgroups.of(settings)
    # The kubelet first, or it would start again what is killed next.
    processes.stop_all([name for name in PROGRAMS if name != CONTAINERD])
    cgroups.kill()
    processes.stop(CONTAINERD)
    _end_shims(processes)
    netns.remove(settings)
    cgroups.remove()
    directory = _directory(settings)
    for path in ("state", "kubelet", "kubelet-pki", "volumes", "pod-logs", "opt", "volume-plugins", "cni"):
        shutil.rmtree(directory / path, ignore_errors=True)


def _directory(settings: Settings) -> Path:
    return settings.directory / "node"


def _end_shims(processes: Processes) -> None:
    """End containerd's shims, whose containers are gone. They are no children of ours but inherit our mark through containerd."""
    for record in processes.strays():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{record.pid}/comm").read_text().strip() == "containerd-shim":
                os.kill(record.pid, signal.SIGKILL)


def _write_files(settings: Settings, directory: Path, cgroup: str, sandbox_image: str) -> None:
    for path in (directory, directory / "cni", directory / "volumes", directory / "pod-logs"):
        path.mkdir(parents=True, exist_ok=True)
    files: dict[str, str | dict[str, Any]] = {
        "containerd.toml": nodeconfig.render_containerd(directory, sandbox_image),
        "cni/10-testbed.conflist": nodeconfig.render_cni(directory),
        "kubelet.json": nodeconfig.render_kubelet(settings, directory, cgroup),
        "proxy.json": nodeconfig.render_proxy(settings, NODE_NAME),
        "Corefile": nodeconfig.render_corefile(settings),
        "resolv.conf": f"nameserver {nodeconfig.BRIDGE_ADDRESS}\n",
    }
    for name, content in files.items():
        (directory / name).write_text(content if isinstance(content, str) else json.dumps(content, indent=1))


def _make_bridge(network: Network) -> None:
    """Make the bridge before the first pod does: DNS binds to its address. Bridged packets pass NAT, or replies keep the wrong source."""
    for command in (
        f"ip link add {nodeconfig.BRIDGE} type bridge",
        f"ip addr add {nodeconfig.BRIDGE_ADDRESS}/24 dev {nodeconfig.BRIDGE}",
        f"ip link set {nodeconfig.BRIDGE} up",
        "sysctl -q -w net.bridge.bridge-nf-call-iptables=1",
    ):
        netns.run([*network.prefix, *command.split()])


def _node_ready(api: Api) -> bool:
    conditions = api.get(f"/api/v1/nodes/{NODE_NAME}").get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _dns_ready() -> bool:
    connection = http.client.HTTPConnection(nodeconfig.BRIDGE_ADDRESS, nodeconfig.DNS_READY_PORT, timeout=2)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == http.client.OK
    finally:
        connection.close()


def _wait(condition: Callable[[], bool], processes: Processes, what: str) -> None:
    """Poll a condition while all programs that were started are alive."""
    deadline = time.monotonic() + _TIMEOUT
    while True:
        for name in set(PROGRAMS) & set(processes.names()):
            processes.require_alive(name)
        try:
            if condition():
                return
        except (ApiError, OSError, http.client.HTTPException):
            pass  # not there yet; a program that died is seen above
        if time.monotonic() > deadline:
            raise Failed(f"Waited {_TIMEOUT:.0f} s for {what}; see the logs in {processes.settings.log}.")
        time.sleep(0.1)
