"""Pure. Who may talk to whom, read from the policies as a firewall would."""

from typing import Any

import pytest

from tests.support.golden import live_manifests, run_case
from tests.support.simcluster import Cluster, minimal

COMPONENTS = ("postgres", "redis", "migrate", "app", "scheduler", "worker-web", "postgres-bootstrap")


@pytest.fixture(scope="module")
def policies() -> list[Any]:
    return [m["spec"] for m in live_manifests(run_case("full")) if m["kind"] == "NetworkPolicy"]


def chooses(selector: dict[str, Any], component: str) -> bool:
    labels = {"chatbotops.io/instance": "demo", "chatbotops.io/component": component}
    return all(labels.get(name) == value for name, value in selector["matchLabels"].items())


def allowed(policies: list[Any], direction: str, subject: str, peer: str | None, port: int) -> bool:
    """Return whether a rule admits traffic of `subject` with a peer component (None is anybody outside)."""
    peers, side = ("from", "ingress") if direction == "Ingress" else ("to", "egress")
    for policy in policies:
        if not chooses(policy["podSelector"], subject) or direction not in policy["policyTypes"]:
            continue
        for rule in policy.get(side, []):
            fits_port = any(entry.get("port", port) == port for entry in rule["ports"])
            fits_peer = peers not in rule or (peer is not None and any(chooses(p["podSelector"], peer) for p in rule[peers]))
            if fits_port and fits_peer:
                return True
    return False


def connects(policies: list[Any], source: str, target: str, port: int) -> bool:
    return allowed(policies, "Egress", source, target, port) and allowed(policies, "Ingress", target, source, port)


@pytest.mark.parametrize("component", COMPONENTS)
def test_everything_is_denied_first(policies: list[Any], component: str) -> None:
    assert any(chooses(p["podSelector"], component) and set(p["policyTypes"]) == {"Ingress", "Egress"} and len(p) == 2 for p in policies)


def test_only_those_who_need_a_store_reach_it(policies: list[Any]) -> None:
    database = {source for source in COMPONENTS if connects(policies, source, "postgres", 5432)}
    cache = {source for source in COMPONENTS if connects(policies, source, "redis", 6379)}
    assert database == {"migrate", "app", "scheduler", "worker-web"}
    assert cache == {"app", "scheduler", "worker-web"}


def test_strangers_reach_the_api_and_metrics_and_no_store(policies: list[Any]) -> None:
    reached = {(c, port) for c in COMPONENTS for port in (8003, 9103, 5432, 6379) if allowed(policies, "Ingress", c, None, port)}
    assert reached == {("app", 8003), ("app", 9103), ("scheduler", 9103), ("worker-web", 9103)}


def test_only_those_who_talk_to_the_provider_leave(policies: list[Any]) -> None:
    https = {c for c in COMPONENTS if allowed(policies, "Egress", c, None, 443)}
    provider = {c for c in COMPONENTS if allowed(policies, "Egress", c, None, 8088)}
    names = {c for c in COMPONENTS if allowed(policies, "Egress", c, None, 53)}
    assert https == {"app", "scheduler", "worker-web"}
    assert provider == {"app", "scheduler"}
    assert names == {"migrate", "app", "scheduler", "worker-web"}


def test_disabled_means_none() -> None:
    cluster = Cluster(minimal(security={"networkPolicy": "Disabled"}))
    cluster.settle()
    assert not [key for key in cluster.things if key.kind == "NetworkPolicy"]


@pytest.mark.parametrize(
    ("base", "ports"),
    [("https://graph.facebook.com", {443}), ("http://provider", {443, 80}), ("https://provider:8443", {443, 8443})],
)
def test_the_providers_port_follows_its_address(base: str, ports: set[int]) -> None:
    cluster = Cluster(minimal(channels={"cloud": {"phoneNumberId": "1", "secretRef": {"name": "wa"}, "apiBaseURL": base}}))
    cluster.secrets["wa"] = {"access-token": "1", "app-secret": "2", "verify-token": "3"}
    cluster.settle()
    egress = cluster.thing("NetworkPolicy", "demo-scheduler").body["spec"]["egress"]
    assert {entry["port"] for rule in egress if "to" not in rule for entry in rule["ports"]} - {53} == ports
