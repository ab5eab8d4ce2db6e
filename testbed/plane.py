"""The control plane: etcd, API server, controller manager and scheduler, in the order in which they can live."""

import json
import shutil
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from testbed import kubeconfig
from testbed.api import Api, ApiError
from testbed.cache import require_space
from testbed.errors import Failed, Refused
from testbed.pki import Authority
from testbed.processes import Processes
from testbed.progress import Progress
from testbed.settings import PORTS, SERVICE_CIDR, SERVICE_IP, Settings
from testbed.tools import binary

COMPONENTS: Final = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
NODE_NAME: Final = "node-1"
_TIMEOUT: Final = 90.0
"""Seconds until a step of the start is called failed: far more than a loaded machine needs."""

_AUDIT_POLICY: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


@dataclass(frozen=True, slots=True)
class Site:
    """Where the plane runs."""

    address: str = "127.0.0.1"
    """Where clients reach it. Loopback without a node: nothing outside this machine can connect."""
    prefix: tuple[str, ...] = ()
    """Command that enters the network namespace of the node and executes in place."""
    mode: str = "plane"
    """`plane`, `sim` or `node`: what `up` was asked for."""
    simulated_nodes: int = 0
    """Nodes of kwok with `sim`."""

    def server(self, settings: Settings) -> str:
        """URL of the API server."""
        return f"https://{self.address}:{settings.port('apiserver')}"

    def save(self, settings: Settings) -> None:
        """Remember, for `status`, `env` and the next `up`."""
        (settings.directory / "site.json").write_text(json.dumps(asdict(self) | {"port_base": settings.port_base}))


def load_site(settings: Settings) -> tuple[Site, Settings] | None:
    """Return what `up` saved, with the ports that it took, or None without a test bed here."""
    try:
        content: dict[str, Any] = json.loads((settings.directory / "site.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    site = Site(content["address"], tuple(content["prefix"]), content["mode"], content["simulated_nodes"])
    return site, Settings(directory=settings.directory, cache=settings.cache, port_base=content["port_base"])


def check(settings: Settings, *, own_namespace: bool = False) -> None:
    """Look for what would make the start fail, before anything is changed.

    Raises:
        Refused: A port is taken (on the host; an own namespace has all ports free) or the disk is full.
    """
    require_space(settings.directory, 1, "a control plane")
    for listener in PORTS if not own_namespace else ():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", settings.port(listener)))
            except OSError:
                raise Refused(
                    f"Port {settings.port(listener)} (for {listener}) is in use; stop what listens there or set TESTBED_PORT_BASE."
                ) from None


def start(settings: Settings, site: Site, progress: Progress) -> None:
    """Start a new, empty control plane and wait for the `default` ServiceAccount.

    Raises:
        Failed: A component ended or did not get ready; the message shows its log.
    """
    programs = {name: binary(settings, name, progress) for name in COMPONENTS}
    binary(settings, "kubectl", progress)
    settings.directory.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(settings.log, ignore_errors=True)
    settings.log.mkdir()
    site.save(settings)
    issue(settings, site)
    processes = Processes(settings)

    def launch(name: str, arguments: Sequence[str]) -> None:
        processes.start(name, [str(programs[name]), *arguments], prefix=site.prefix)

    with progress.step("etcd and API server"):
        launch("etcd", _etcd(settings))
        launch("kube-apiserver", _apiserver(settings, site))
        api = Api(settings.kubeconfig("admin"))
        _until(api.ready, processes, ("etcd", "kube-apiserver"), "the API server to be ready")
    with progress.step("controller manager and scheduler"):
        _until(lambda: _rbac_bootstrapped(api), processes, ("kube-apiserver",), "the RBAC bootstrap")
        launch("kube-controller-manager", _controller_manager(settings))
        launch("kube-scheduler", _scheduler(settings))
        _until(
            lambda: api.exists("/api/v1/namespaces/default/serviceaccounts/default"), processes, COMPONENTS, "the default ServiceAccount"
        )
    _allow_kubelet_access(api)


def stop(settings: Settings) -> None:
    """End every process of this test bed and remove its state; logs stay. Safe to call at any time."""
    processes = Processes(settings)
    order = [name for name in processes.names() if name not in COMPONENTS] + list(reversed(COMPONENTS))
    processes.stop_all(order, grace=3)  # nothing here is worth a longer good-bye
    processes.stop_all()
    for file in (*settings.directory.glob("*.kubeconfig"), settings.directory / "site.json", settings.directory / "audit.yaml"):
        file.unlink(missing_ok=True)
    for directory in (settings.directory / "etcd", settings.pki, settings.pids):
        shutil.rmtree(directory, ignore_errors=True)


def issue(settings: Settings, site: Site) -> None:
    """Make the authority, every certificate and every kubeconfig of a test bed, its node's included."""
    authority = Authority.create(settings.pki)
    service_names = [f"kubernetes{suffix}" for suffix in ("", ".default", ".default.svc", ".default.svc.cluster.local")]
    authority.issue(
        "apiserver", "kube-apiserver", names=["localhost", *service_names], addresses=sorted({"127.0.0.1", SERVICE_IP, site.address})
    )
    authority.issue("kubelet-client", "kube-apiserver", organisations=["system:kubelet-admins"])
    users = {
        "admin": ("admin", ["system:masters"]),
        "controller-manager": ("system:kube-controller-manager", []),
        "scheduler": ("system:kube-scheduler", []),
        "proxy": ("system:kube-proxy", []),
        "kwok": ("testbed-kwok", ["system:masters"]),  # names of their own, so that the audit log tells them apart
        "simulator": ("testbed-simulator", ["system:masters"]),
    }
    for name, (user, groups) in users.items():
        authority.issue(name, user, organisations=groups)
    addresses = sorted({"127.0.0.1", site.address})
    authority.issue("node", f"system:node:{NODE_NAME}", organisations=["system:nodes"], names=[NODE_NAME], addresses=addresses)
    for name in (*users, "node"):
        kubeconfig.write(settings, name, site.server(settings))
    (settings.directory / "audit.yaml").write_text(json.dumps(_AUDIT_POLICY))


def _etcd(settings: Settings) -> list[str]:
    clients, peers = (f"http://127.0.0.1:{settings.port(listener)}" for listener in ("etcd", "etcd-peer"))
    return [
        f"--data-dir={settings.directory / 'etcd'}",
        f"--listen-client-urls={clients}",
        f"--advertise-client-urls={clients}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=default={peers}",
        "--unsafe-no-fsync",  # a test bed's state need not survive a power cut
        "--auto-compaction-retention=1",
        "--quota-backend-bytes=2147483648",
    ]


def _apiserver(settings: Settings, site: Site) -> list[str]:
    pki = settings.pki
    loopback = site.address == "127.0.0.1"
    return [
        f"--etcd-servers=http://127.0.0.1:{settings.port('etcd')}",
        f"--secure-port={settings.port('apiserver')}",
        f"--bind-address={'127.0.0.1' if loopback else '0.0.0.0'}",  # noqa: S104 - inside the node's own network namespace
        f"--advertise-address={_outward_address() if loopback else site.address}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        "--authorization-mode=Node,RBAC",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki / 'sa.pub'}",
        f"--service-account-signing-key-file={pki / 'sa.key'}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        "--allow-privileged=true",
        "--enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement",
        "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        f"--kubelet-client-certificate={pki / 'kubelet-client.crt'}",
        f"--kubelet-client-key={pki / 'kubelet-client.key'}",
        f"--audit-policy-file={settings.directory / 'audit.yaml'}",
        f"--audit-log-path={settings.audit_log}",
        "--audit-log-maxsize=2000",
    ]


def _controller_manager(settings: Settings) -> list[str]:
    return [
        *_client_flags(settings, "controller-manager"),
        "--use-service-account-credentials",
        f"--service-account-private-key-file={settings.pki / 'sa.key'}",
        f"--root-ca-file={settings.pki / 'ca.crt'}",
        f"--cluster-signing-cert-file={settings.pki / 'ca.crt'}",
        f"--cluster-signing-key-file={settings.pki / 'ca.key'}",
        "--concurrent-deployment-syncs=20",
        "--concurrent-job-syncs=20",
    ]


def _scheduler(settings: Settings) -> list[str]:
    return _client_flags(settings, "scheduler")


def _client_flags(settings: Settings, name: str) -> list[str]:
    """Return what both controllers need; their default of 20 to 50 requests a second would measure them, not the operator."""
    file = settings.kubeconfig(name)
    return [
        f"--kubeconfig={file}",
        f"--authentication-kubeconfig={file}",
        f"--authorization-kubeconfig={file}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        f"--secure-port={settings.port(name)}",
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
    ]


def _rbac_bootstrapped(api: Api) -> bool:
    """Whether both controllers may do their first request; the controller manager exits for good when it may not."""
    questions = (
        (
            "system:kube-controller-manager",
            {"verb": "get", "resource": "configmaps", "namespace": "kube-system", "name": "extension-apiserver-authentication"},
        ),
        ("system:kube-scheduler", {"verb": "list", "group": "storage.k8s.io", "resource": "csinodes"}),
    )
    for user, attributes in questions:
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": user, "resourceAttributes": attributes},
        }
        if not api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)["status"]["allowed"]:
            return False
    return True


def _allow_kubelet_access(api: Api) -> None:
    """Let the API server use the kubelet's API: logs, exec, port-forward."""
    name = "testbed-kubelet-admins"
    api.apply(
        f"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{name}",
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:kubelet-api-admin"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:kubelet-admins"}],
        },
    )


def _outward_address() -> str:
    """Return this machine's own address: with loopback the `kubernetes` Service would get no endpoints.

    Connecting a datagram socket sends nothing; it only makes the kernel choose a route. 192.0.2.1 is reserved for documentation.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            address: str = probe.getsockname()[0]
        except OSError:  # no route at all: any address that is not loopback will do, as no pod runs here
            return "192.0.2.1"
    return address


def _until(condition: Callable[[], bool], processes: Processes, needed: Sequence[str], what: str) -> None:
    """Poll a condition while the processes that it needs are alive."""
    deadline = time.monotonic() + _TIMEOUT
    while True:
        for name in needed:
            processes.require_alive(name)
        try:
            if condition():
                return
        except (OSError, ApiError):
            pass  # not yet up; a process that died is seen above
        if time.monotonic() > deadline:
            raise Failed(f"Waited {_TIMEOUT:.0f} s for {what}; see the logs in {_log_directory(processes)}.")
        time.sleep(0.05)


def _log_directory(processes: Processes) -> Path:
    return processes.settings.log
