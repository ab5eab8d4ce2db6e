"""Pod templates that pass Pod Security `restricted`: one place for security, resources, probes, Secrets and scheduling."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from chatbot_operator.api.v1alpha1.common import ResourceAmounts, Resources, Scheduling, Toleration
from chatbot_operator.constants import ANNOTATION_SECRETS_HASH
from chatbot_operator.desired.inputs import Inputs
from chatbot_operator.desired.metadata import Object, digest, pod_labels
from chatbot_operator.desired.quantity import canonical, larger, smaller
from chatbot_operator.model.plan import Use

RUNTIME_UID: Final = 10001
POSTGRES_UID: Final = 10002
REDIS_UID: Final = 10003
SECRETS_DIR: Final = "/run/secrets/chatbot"
_SECRET_MODE: Final = 0o440


@dataclass(frozen=True, slots=True)
class Defaults:
    """Compute resources of a component where its spec says nothing: requests and the memory limit (no CPU limit: it only throttles)."""

    cpu: str
    memory: str
    memory_limit: str


@dataclass(frozen=True, slots=True)
class Pod:
    """What distinguishes the pods of one component. `mounts` maps a volume's name to its path."""

    component: str
    account: str
    uid: int
    image: str
    command: str
    env: Mapping[str, str]
    uses: tuple[Use, ...]
    defaults: Defaults
    resources: Resources | None = None
    scheduling: Scheduling | None = None
    number: str = ""
    ports: Mapping[str, int] = field(default_factory=dict)
    probes: Mapping[str, Object] = field(default_factory=dict)
    volumes: tuple[Object, ...] = ()
    mounts: Mapping[str, str] = field(default_factory=dict)
    grace_seconds: int = 30
    pre_stop_seconds: int = 0
    spread: bool = False
    restart: str = ""


def render_template(inputs: Inputs, pod: Pod) -> Object:
    """Return a pod template."""
    metadata: Object = {"labels": pod_labels(inputs, pod.component, pod.number)}
    if pod.uses:
        metadata["annotations"] = {ANNOTATION_SECRETS_HASH: secrets_hash(inputs, pod.uses)}
    spec: Object = {
        "serviceAccountName": pod.account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": pod.grace_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": pod.uid,
            "runAsGroup": pod.uid,
            "fsGroup": pod.uid,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(pod)],
        "volumes": [*_own_volumes(pod), *pod.volumes],
        **_scheduling(pod.scheduling),
    }
    if pod.restart:
        spec["restartPolicy"] = pod.restart
    if pod.spread:
        spec["topologySpreadConstraints"] = [_spread(inputs, pod, key) for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")]
    if inputs.spec.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": ref.name} for ref in inputs.spec.image_pull_secrets]
    return {"metadata": metadata, "spec": spec}


def secrets_hash(inputs: Inputs, uses: Sequence[Use]) -> str:
    """Return a hash that changes when the content of a mounted key does. A missing key counts as empty; a gate keeps it from use."""
    found = []
    for use in uses:
        facts = inputs.secrets.get(use.secret)
        found.append([use.secret, use.key, facts.keys.get(use.key, "") if facts else ""])
    return digest(found)


def http_probe(path: str, port: str, *, period: int, timeout: int, failures: int) -> Object:
    """Return a probe by HTTP; times in seconds."""
    return {"httpGet": {"path": path, "port": port}, "periodSeconds": period, "timeoutSeconds": timeout, "failureThreshold": failures}


def exec_probe(command: Sequence[str], *, period: int, timeout: int, failures: int) -> Object:
    """Return a probe by a command in the container; times in seconds."""
    return {"exec": {"command": list(command)}, "periodSeconds": period, "timeoutSeconds": timeout, "failureThreshold": failures}


def empty_dir(name: str, size: str, *, memory: bool = False) -> Object:
    """Return a bounded scratch volume, in memory if wanted."""
    return {"name": name, "emptyDir": {"sizeLimit": size, **({"medium": "Memory"} if memory else {})}}


def claim_volume(name: str, claim: str) -> Object:
    """Return a volume on a claim."""
    return {"name": name, "persistentVolumeClaim": {"claimName": claim}}


def _container(pod: Pod) -> Object:
    files = {use.variable: f"{SECRETS_DIR}/{use.file}" for use in pod.uses if use.variable}
    env = {**pod.env, **files}
    mounts = {"tmp": "/tmp", **pod.mounts}  # noqa: S108  the pod's own emptyDir
    made: Object = {
        "name": pod.component,
        "image": pod.image,
        "imagePullPolicy": "IfNotPresent",
        "args": [pod.command],
        "resources": _resources(pod.resources, pod.defaults),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in mounts.items()],
        **pod.probes,
    }
    if pod.uses:
        made["volumeMounts"].append({"name": "secrets", "mountPath": SECRETS_DIR, "readOnly": True})
    if env:
        made["env"] = [{"name": name, "value": value} for name, value in env.items()]
    if pod.ports:
        made["ports"] = [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in pod.ports.items()]
    if pod.pre_stop_seconds:
        # Endpoints are withdrawn while this sleeps, so that no new request meets a closing socket.
        made["lifecycle"] = {"preStop": {"sleep": {"seconds": pod.pre_stop_seconds}}}
    return made


def _own_volumes(pod: Pod) -> list[Object]:
    tmp = [] if any(volume["name"] == "tmp" for volume in pod.volumes) else [empty_dir("tmp", "128Mi")]
    if not pod.uses:
        return tmp
    by_secret: dict[str, list[Object]] = {}
    for use in pod.uses:
        by_secret.setdefault(use.secret, []).append({"key": use.key, "path": use.file})
    sources = [{"secret": {"name": name, "items": items}} for name, items in by_secret.items()]
    return [*tmp, {"name": "secrets", "projected": {"defaultMode": _SECRET_MODE, "sources": sources}}]


def _resources(given: Resources | None, defaults: Defaults) -> Object:
    """Return requests and limits; an amount that is not given has its default, so that no pod loses its memory limit by the way."""
    requests = (given and given.requests) or ResourceAmounts()
    limits = (given and given.limits) or ResourceAmounts()
    cpu, cpu_limit = _bounds(requests.cpu, limits.cpu, defaults.cpu, "")
    memory, memory_limit = _bounds(requests.memory, limits.memory, defaults.memory, defaults.memory_limit)
    most = {"cpu": cpu_limit, "memory": memory_limit}
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {name: value for name, value in most.items() if value}}


def _bounds(request: str | None, limit: str | None, default: str, default_limit: str) -> tuple[str, str]:
    """Return request and limit of one resource, an empty limit for none. A default yields to what is given, or the pod would be refused."""
    if not limit and default_limit:
        limit = larger(default_limit, request or "")
    if not request:
        request = smaller(default, limit) if limit else default
    return canonical(request), canonical(limit) if limit else ""


def _scheduling(given: Scheduling | None) -> Object:
    if given is None:
        return {}
    made: Object = {}
    if given.node_selector:
        made["nodeSelector"] = dict(given.node_selector)
    if given.tolerations:
        made["tolerations"] = [_toleration(each) for each in given.tolerations]
    if given.priority_class_name:
        made["priorityClassName"] = given.priority_class_name
    return made


def _toleration(given: Toleration) -> Object:
    fields: dict[str, Any] = {
        "key": given.key,
        "operator": given.operator.value,
        "value": given.value,
        "effect": given.effect.value if given.effect else None,
    }
    made = {name: value for name, value in fields.items() if value}
    if given.toleration_seconds is not None:
        made["tolerationSeconds"] = given.toleration_seconds
    return made


def _spread(inputs: Inputs, pod: Pod, topology: str) -> Object:
    labels = {name: value for name, value in pod_labels(inputs, pod.component).items() if name.startswith("chatbotops.io/")}
    return {
        "maxSkew": 1,
        "topologyKey": topology,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels},
    }
