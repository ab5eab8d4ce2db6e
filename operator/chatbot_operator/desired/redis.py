"""The managed Redis: server, Service, and a claim when it is Persistent."""

from typing import Final

from chatbot_operator.api.v1alpha1.instance import Durability
from chatbot_operator.constants import REDIS_PORT
from chatbot_operator.desired import names
from chatbot_operator.desired.inputs import Inputs
from chatbot_operator.desired.metadata import Object, kept, selector, workload
from chatbot_operator.desired.parts import claim_spec, service, shared_decisions
from chatbot_operator.desired.pods import REDIS_UID, Defaults, Pod, claim_volume, empty_dir, exec_probe, render_template
from chatbot_operator.desired.quantity import mebibytes, to_bytes
from chatbot_operator.desired.references import uses_of

_PING: Final = ("redis-ping",)
_MEBIBYTE: Final = 1024 * 1024


def render_claim(inputs: Inputs) -> Object | None:
    """Return the claim of the append-only file, or None for an Ephemeral cache."""
    cache = inputs.spec.cache
    if cache.durability is Durability.EPHEMERAL:
        return None
    name = names.redis_claim_name(inputs.name)
    spec = claim_spec(inputs, name, cache.storage.size, cache.storage.storage_class_name)
    return kept(inputs, "PersistentVolumeClaim", name, names.REDIS, spec)


def render_server(inputs: Inputs) -> Object:
    """Return the StatefulSet."""
    component = names.REDIS
    cache, target = inputs.spec.cache, inputs.targets.redis
    persistent = cache.durability is Durability.PERSISTENT
    data = claim_volume("data", names.redis_claim_name(inputs.name)) if persistent else empty_dir("data", "256Mi")
    pod = Pod(
        component=component,
        account=names.component_name(inputs.name, component),
        uid=REDIS_UID,
        image=inputs.operator.redis_image,
        command="serve",
        env={"REDIS_MAXMEMORY": str(to_bytes(cache.max_memory)), "REDIS_APPENDONLY": "yes" if persistent else "no"},
        uses=uses_of(component, inputs.name, inputs.spec),
        defaults=_defaults(cache.max_memory),
        resources=cache.resources,
        scheduling=cache.scheduling,
        ports={"redis": REDIS_PORT},
        probes={
            "startupProbe": exec_probe(_PING, period=2, timeout=3, failures=150),
            "livenessProbe": exec_probe(_PING, period=20, timeout=10, failures=6),
            "readinessProbe": exec_probe(_PING, period=5, timeout=3, failures=3),
        },
        volumes=(data,),
        mounts={"data": "/data"},
    )
    spec: Object = {
        "replicas": target.replicas,
        "serviceName": names.component_name(inputs.name, component),
        "podManagementPolicy": "Parallel",
        "revisionHistoryLimit": 3,
        "selector": {"matchLabels": selector(inputs, component)},
        "template": render_template(inputs, pod),
    }
    decided = {
        "replicas": target.replicas,
        "cache": cache.model_dump(mode="json", exclude_defaults=True, include={"durability", "max_memory", "resources", "scheduling"}),
        "shared": shared_decisions(inputs, pod),
    }
    return workload(inputs, "StatefulSet", names.component_name(inputs.name, component), component, spec, decided)


def render_service(inputs: Inputs) -> Object:
    """Return the Service of the cache."""
    return service(inputs, names.REDIS, {"redis": REDIS_PORT})


def _defaults(max_memory: str) -> Defaults:
    """Return room for the data, and in the limit half as much again for the copy that a rewrite of the append-only file makes."""
    data = -(-to_bytes(max_memory) // _MEBIBYTE)
    return Defaults(cpu="20m", memory=mebibytes(data + 32), memory_limit=mebibytes(data * 3 // 2 + 64))
