"""The node's own network and mount namespaces, held by one sleeping process: interfaces and mounts end with it."""

import hashlib
import ipaddress
import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from testbed.errors import Failed, Refused
from testbed.processes import Processes
from testbed.settings import SERVICE_CIDR, Settings

POD_CIDR: Final = "10.244.0.0/16"
LINK: Final = "10.200.0.0/30"
HOST_ADDRESS: Final = "10.200.0.1"
NODE_ADDRESS: Final = "10.200.0.2"
HOLDER: Final = "namespaces"
HIDDEN: Final = ("/run", "/var/lib", "/var/log")
"""Directories that the node's programs write to under fixed names; in its mount namespace they are empty and vanish with it."""

_SCRIPT: Final = """set -e
mount --make-rshared /
for hidden in "$@"; do mount -t tmpfs -o mode=0755 testbed "$hidden"; done
exec sleep infinity
"""


@dataclass(frozen=True, slots=True)
class Network:
    """A live pair of namespaces."""

    holder: int
    """Pid that keeps them."""
    address: str = NODE_ADDRESS
    """Address of the node, and of the API server beside it."""

    @property
    def prefix(self) -> tuple[str, ...]:
        """Command that enters the network namespace only and executes in place: for the control plane."""
        return ("nsenter", "--target", str(self.holder), "--net", "--")

    @property
    def node_prefix(self) -> tuple[str, ...]:
        """Command that enters both namespaces and executes in place: for what mounts."""
        return ("nsenter", "--target", str(self.holder), "--net", "--mount", "--")


def check(settings: Settings) -> None:
    """Look for what would collide, before anything is changed.

    Raises:
        Refused: a work directory that the node could not see, or a route to our address ranges.
    """
    for path in (settings.directory, settings.cache):
        if any(path.resolve().is_relative_to(hidden) for hidden in HIDDEN):
            raise Refused(f"{path} must not lie below {', '.join(HIDDEN)}: the node hides these directories from its programs.")
    wanted = [ipaddress.ip_network(cidr) for cidr in (LINK, SERVICE_CIDR, POD_CIDR)]
    for route in _ip_json("-4", "route", "show", "table", "all"):
        text = str(route.get("dst", "default"))
        if text == "default" or route.get("type", "unicast") not in ("unicast", "local") or route.get("dev") == _host_interface(settings):
            continue
        taken = ipaddress.ip_network(text, strict=False)
        for network in wanted:
            if network.overlaps(taken):
                raise Refused(
                    f"This machine routes {taken} through {route.get('dev')}, which the node needs ({network}); is another node up?"
                )


def ensure(settings: Settings) -> Network:
    """Make the namespaces, the link to the host, and the host's routes to ClusterIPs and pods; use those that are there.

    Raises:
        Failed: a step failed.
    """
    processes = Processes(settings)
    record = processes.record(HOLDER)
    if record is not None and record.alive():
        return Network(record.pid)
    settings.directory.mkdir(parents=True, exist_ok=True)
    unshare = ("unshare", "--net", "--mount", "--propagation", "private", "--", "sh", "-c", _SCRIPT, "sh")
    network = Network(processes.start(HOLDER, HIDDEN, prefix=unshare))
    _wait_for_sleep(network.holder, processes)
    ours, theirs = _host_interface(settings), _host_interface(settings, end="n")
    for command in (
        f"ip link add {ours} type veth peer name {theirs} netns {network.holder}",
        f"ip addr add {HOST_ADDRESS}/30 dev {ours}",
        f"ip link set {ours} up",
    ):
        run(command.split())
    for command in (
        f"ip addr add {NODE_ADDRESS}/30 dev {theirs}",
        f"ip link set {theirs} up",
        "ip link set lo up",
        f"ip route add default via {HOST_ADDRESS}",
        "sysctl -q -w net.ipv4.ip_forward=1",
    ):
        run([*network.prefix, *command.split()])
    for cidr in (SERVICE_CIDR, POD_CIDR):
        run(["ip", "route", "replace", cidr, "via", NODE_ADDRESS, "dev", ours])
    return network


def remove(settings: Settings) -> None:
    """End the namespaces; interfaces, routes and mounts go with them. Safe to call at any time."""
    Processes(settings).stop(HOLDER)
    name = _host_interface(settings)
    # The kernel takes a namespace down in the background; a new `up` must not meet the old interface.
    deadline = time.monotonic() + 10
    while Path(f"/sys/class/net/{name}").exists():
        subprocess.run(["ip", "link", "delete", name], check=False, stderr=subprocess.DEVNULL)
        if time.monotonic() > deadline:
            raise Failed(f"The interface {name} did not go away.")
        time.sleep(0.05)


def run(command: Sequence[str]) -> str:
    """Run a command to its end and return its standard output.

    Raises:
        Failed: it ended with an error.
    """
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"`{' '.join(command)}` failed: {done.stderr.strip()[-500:]}")
    return done.stdout


def _wait_for_sleep(pid: int, processes: Processes) -> None:
    """Wait until the holder has prepared the namespaces: its last step is to become `sleep`."""
    deadline = time.monotonic() + 10
    while True:
        processes.require_alive(HOLDER)
        try:
            if Path(f"/proc/{pid}/comm").read_text().strip() == "sleep":
                return
        except FileNotFoundError:
            pass  # it ended: require_alive says so
        if time.monotonic() > deadline:
            raise Failed("The node's namespaces were not ready after 10 s.")
        time.sleep(0.01)


def _host_interface(settings: Settings, end: str = "h") -> str:
    """Return the name of our end of the link: unique for a work directory, at most 15 characters."""
    return f"tb{hashlib.sha256(str(settings.directory).encode()).hexdigest()[:8]}{end}"


def _ip_json(*arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run(["ip", "-j", *arguments]) or "[]")
    return found
