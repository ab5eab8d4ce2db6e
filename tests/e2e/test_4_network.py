"""Needs a real node with NetworkPolicies enforced: who of the chatbot may talk to whom, and that a stranger may not."""

from collections.abc import Callable

import pytest

from testbed.demoprovider import NAME as PROVIDER
from testbed.demoprovider import PORT as PROVIDER_PORT
from tests.support.site import APP_PORT, Site

STRANGER = "stranger"
"""The provider's pod: in the same namespace, but no part of the instance."""
ALLOWED = [
    ("app", "postgres", 5432),
    ("app", "redis", 6379),
    ("scheduler", "postgres", 5432),
    ("scheduler", "redis", 6379),
    ("scheduler", "provider", PROVIDER_PORT),
    (STRANGER, "app", APP_PORT),
]
ITSELF = "itself"
OPEN = {STRANGER: ("app", APP_PORT), "scheduler": ("postgres", 5432), "postgres": (ITSELF, 5432), "redis": (ITSELF, 6379)}
"""A flow that opens from the very pod, or a probe that cannot run there would pass for a refusal. The stores may call nobody else."""
REFUSED = [
    (STRANGER, "postgres", 5432),
    (STRANGER, "redis", 6379),
    ("redis", "postgres", 5432),
    ("postgres", "redis", 6379),
    ("postgres", "app", APP_PORT),
    ("scheduler", "app", APP_PORT),
]


@pytest.fixture
def connects(site: Site) -> Callable[[str, str, int], bool]:
    """A function that says whether a TCP connection from a component to a Service, or to itself, opens."""
    services = {"provider": PROVIDER, **{name: f"{site.name}-{name}" for name in ("app", "postgres", "redis")}}
    address = {
        name: site.api.get(f"/api/v1/namespaces/{site.namespace}/services/{service}")["spec"]["clusterIP"]
        for name, service in services.items()
    } | {ITSELF: "127.0.0.1"}

    def connect(source: str, target: str, port: int) -> bool:
        pod = f"deployment/{PROVIDER}" if source == STRANGER else next(iter(site.pods(component=source)))
        # Opens a socket and closes it; bash is in every Debian image. The address, because most components may not ask DNS.
        script = f"timeout 5 bash -c 'exec 3<>/dev/tcp/{address[target]}/{port}' && echo open || echo closed"
        answer = site.kubectl("exec", "-n", site.namespace, pod, "--", "bash", "-c", script).split()
        assert answer, "the probe itself must run: no answer is no refusal"
        return answer[-1] == "open"

    return connect


@pytest.mark.parametrize(("source", "target", "port"), ALLOWED)
def test_flows_that_the_chatbot_lives_on(connects: Callable[[str, str, int], bool], source: str, target: str, port: int) -> None:
    assert connects(source, target, port)


@pytest.mark.parametrize(("source", "target", "port"), REFUSED)
def test_flows_that_nobody_needs(connects: Callable[[str, str, int], bool], source: str, target: str, port: int) -> None:
    assert connects(source, *OPEN[source]), "the probe itself does not work in this pod"
    assert not connects(source, target, port)
