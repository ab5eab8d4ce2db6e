"""Configuration files of the node's programs, as data: every setting that is not a default says what was met without it."""

from pathlib import Path
from typing import Any, Final

from testbed.netns import POD_CIDR
from testbed.settings import SERVICE_CIDR, Settings

BRIDGE: Final = "cni0"
BRIDGE_ADDRESS: Final = "10.244.0.1"
NODE_PODS: Final = "10.244.0.0/24"
DNS_READY_PORT: Final = 8181
CLUSTER_DOMAIN: Final = "cluster.local"

Object = dict[str, Any]


def render_containerd(directory: Path, sandbox_image: str) -> str:
    """Return containerd's configuration (version 1.6 or 1.7)."""
    return f"""version = 2
root = "{directory}/root"
state = "{directory}/state"
oom_score = 0
[grpc]
  address = "{directory}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{directory}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{sandbox_image}"
  # Without CAP_SYS_RESOURCE nothing may lower its oom_score_adj: "can't get final child's PID from pipe: EOF" on every pod.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{directory}/cni"
"""


def render_cni(directory: Path) -> Object:
    """Return the pod network: one bridge. No masquerade: the host has a route to pods, and nothing else is promised to them."""
    ipam = {
        "type": "host-local",
        "dataDir": str(directory / "state" / "ipam"),
        "ranges": [[{"subnet": NODE_PODS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "ipMasq": False, "hairpinMode": True, "ipam": ipam}
    return {"cniVersion": "1.0.0", "name": "testbed", "plugins": [bridge]}


def render_kubelet(settings: Settings, directory: Path, cgroup: str) -> Object:
    """Return the kubelet's configuration; the control group driver is cgroupfs on cgroup v1 and v2 alike, as no systemd is needed."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}",
        "containerRuntimeEndpoint": f"unix://{directory}/containerd.sock",
        "podLogsDir": str(directory / "pod-logs"),
        "volumePluginDir": str(directory / "volume-plugins"),
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        # cAdvisor may not know the root device: "failed to get rootfs info".
        "localStorageCapacityIsolation": False,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "2%", "imagefs.available": "2%", "nodefs.inodesFree": "1%"},
        # Images can't be pulled again, so none may be collected.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "clusterDNS": [BRIDGE_ADDRESS],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": str(directory / "resolv.conf"),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(settings.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(settings.pki / "node.crt"),
        "tlsPrivateKeyFile": str(settings.pki / "node.key"),
        "serializeImagePulls": False,
        "maxPods": 110,
        "syncFrequency": "10s",
    }


def render_proxy(settings: Settings, node: str) -> Object:
    """Return kube-proxy's configuration. Connection tracking limits belong to the machine and are left alone."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": POD_CIDR,
        "clientConnection": {"kubeconfig": str(settings.kubeconfig("proxy"))},
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "nftables": {"minSyncPeriod": "100ms"},
        "hostnameOverride": node,
    }


def policy_arguments(settings: Settings, node: str) -> list[str]:
    """Return the arguments of kube-router as the enforcer of NetworkPolicies and nothing else; kube-proxy keeps Services."""
    return [
        "--run-firewall=true",
        "--run-router=false",
        "--run-service-proxy=false",
        f"--kubeconfig={settings.kubeconfig('admin')}",
        f"--hostname-override={node}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        "--metrics-port=0",
        "--health-port=0",
    ]


def render_corefile(settings: Settings) -> str:
    """Return the cluster's DNS server: names of the cluster only, on the bridge's address."""
    return f""".:53 {{
  bind {BRIDGE_ADDRESS}
  errors
  kubernetes {CLUSTER_DOMAIN} in-addr.arpa {{
    kubeconfig {settings.kubeconfig("admin")}
    pods insecure
  }}
  ready {BRIDGE_ADDRESS}:{DNS_READY_PORT}
  cache 5
}}
"""


def render_storage_classes(provisioner: str) -> list[Object]:
    """Return the classes of the provisioner: `standard`, and `limited` whose volumes really are as small as they say."""
    return [
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {
                "name": name,
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"} if name == "standard" else {},
            },
            "provisioner": provisioner,
            "parameters": {"limited": "true" if name == "limited" else "false"},
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "WaitForFirstConsumer",
        }
        for name in ("standard", "limited")
    ]
