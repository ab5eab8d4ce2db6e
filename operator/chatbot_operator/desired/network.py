"""NetworkPolicies: deny everything, then allow each component what it needs."""

import re
from typing import Any, Final

from chatbot_operator.api.v1alpha1.instance import Mode, Switch
from chatbot_operator.constants import APP_PORT, LABEL_COMPONENT, LABEL_INSTANCE, METRICS_PORT, POSTGRES_PORT, REDIS_PORT
from chatbot_operator.desired import names
from chatbot_operator.desired.inputs import Inputs
from chatbot_operator.desired.metadata import Object, child

_DNS: Final[Object] = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
_ANY_TCP: Final[Object] = {"ports": [{"protocol": "TCP"}]}
"""To stores that somebody else runs: their addresses are in Secrets whose values the operator never reads."""
_HTTPS: Final = 443
_NETWORK: Final = "network"
"""Component of all policies: they stand and fall together, whatever component they protect."""
_CLIENTS: Final = (names.APP, names.SCHEDULER, names.WORKER_WEB)


def render_policies(inputs: Inputs) -> tuple[Object, ...]:
    """Return all policies, or none when they are disabled."""
    if inputs.spec.security.network_policy is Switch.DISABLED:
        return ()
    spec = inputs.spec
    made = [_deny(inputs)]
    if spec.database.mode is Mode.MANAGED:
        jobs = (names.MIGRATE, names.BACKUP) if spec.backup is not None else (names.MIGRATE,)
        made.append(_policy(inputs, names.POSTGRES, ingress=[_from_components(inputs, (*jobs, *_CLIENTS), POSTGRES_PORT)]))
    if spec.cache.mode is Mode.MANAGED:
        made.append(_policy(inputs, names.REDIS, ingress=[_from_components(inputs, _CLIENTS, REDIS_PORT)]))
    made.append(_policy(inputs, names.MIGRATE, egress=[_DNS, _to_database(inputs)]))
    if spec.backup is not None:
        made.append(_policy(inputs, names.BACKUP, egress=[_DNS, _to_database(inputs)]))
    stores = [_DNS, _to_database(inputs), _to_cache(inputs)]
    # No `from`: gateways, people's ingress controllers and the kubelet's probes come from addresses that nobody knows here.
    made.append(_policy(inputs, names.APP, ingress=[_ports(APP_PORT, METRICS_PORT)], egress=[*stores, _ports(*_provider_ports(inputs))]))
    made.append(_policy(inputs, names.SCHEDULER, ingress=[_ports(METRICS_PORT)], egress=[*stores, _ports(*_provider_ports(inputs))]))
    if spec.worker_web.numbers:
        made.append(_policy(inputs, names.WORKER_WEB, ingress=[_ports(METRICS_PORT)], egress=[*stores, _ports(_HTTPS)]))
    return tuple(made)


def _deny(inputs: Inputs) -> Object:
    spec = {"podSelector": {"matchLabels": {LABEL_INSTANCE: inputs.name}}, "policyTypes": ["Ingress", "Egress"]}
    return child(inputs, "NetworkPolicy", f"{inputs.name}-default-deny", _NETWORK, spec)


def _policy(inputs: Inputs, component: str, *, ingress: list[Any] | None = None, egress: list[Any] | None = None) -> Object:
    spec: Object = {
        "podSelector": {"matchLabels": {LABEL_INSTANCE: inputs.name, LABEL_COMPONENT: component}},
        "policyTypes": [name for name, rules in (("Ingress", ingress), ("Egress", egress)) if rules],
    }
    if ingress:
        spec["ingress"] = ingress
    if egress:
        spec["egress"] = egress
    return child(inputs, "NetworkPolicy", names.component_name(inputs.name, component), _NETWORK, spec)


def _peers(inputs: Inputs, components: tuple[str, ...]) -> list[Object]:
    return [{"podSelector": {"matchLabels": {LABEL_INSTANCE: inputs.name, LABEL_COMPONENT: component}}} for component in components]


def _from_components(inputs: Inputs, components: tuple[str, ...], port: int) -> Object:
    return {"from": _peers(inputs, components), **_ports(port)}


def _ports(*ports: int) -> Object:
    return {"ports": [{"port": port, "protocol": "TCP"} for port in ports]}


def _to_database(inputs: Inputs) -> Object:
    if inputs.spec.database.mode is Mode.EXTERNAL:
        return _ANY_TCP
    return {"to": _peers(inputs, (names.POSTGRES,)), **_ports(POSTGRES_PORT)}


def _to_cache(inputs: Inputs) -> Object:
    if inputs.spec.cache.mode is Mode.EXTERNAL:
        return _ANY_TCP
    return {"to": _peers(inputs, (names.REDIS,)), **_ports(REDIS_PORT)}


def _provider_ports(inputs: Inputs) -> tuple[int, ...]:
    """Return the ports of HTTPS and of the provider's address. Policies see the port of the pod behind a Service, not the Service's."""
    cloud = inputs.spec.channels.cloud
    if cloud is None:
        return (_HTTPS,)
    found = re.fullmatch(r"(https?)://[^:/]+(?::(\d+))?", cloud.api_base_url)
    port = int(found[2]) if found and found[2] else 80 if found and found[1] == "http" else _HTTPS
    return tuple(dict.fromkeys((_HTTPS, port)))
