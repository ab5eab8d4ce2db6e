"""Needs the control plane of the test bed; kills the operator again and again. Every test carries the marker `chaos`."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.kubeconfig import write_token
from tests.support.cluster import Cluster
from tests.support.faultproxy import FaultProxy
from tests.support.fixtures import (  # noqa: F401 - fixtures and hooks are found by name
    OperatorAccount,
    admin,
    audit,
    cluster,
    crds,
    namespace,
    operator_account,
    operator_logs,
    pytest_runtest_makereport,
    start_operator,
)

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in this folder."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.chaos)


@pytest.fixture
def proxy(cluster: Cluster, tmp_path: Path) -> Iterator[FaultProxy]:  # noqa: F811 the fixture above
    """A fault proxy in front of the API server."""
    with FaultProxy(cluster.server, cluster.ca_file, tmp_path / "proxy").running() as running:
        yield running


@pytest.fixture
def through_proxy(cluster: Cluster, operator_account: OperatorAccount, proxy: FaultProxy, tmp_path: Path) -> Path:  # noqa: F811  the fixture above
    """The operator's kubeconfig through the proxy."""
    token = cluster.account_token(operator_account.namespace, operator_account.name)
    return write_token(tmp_path / "proxied.kubeconfig", proxy.url, proxy.ca_file, token)


@pytest.fixture
def every() -> int:
    """Kill at every so many-th request (`CHAOS_EVERY`): 10 by default, 1 for all."""
    return int(os.environ.get("CHAOS_EVERY", "10"))


@pytest.fixture
def seed() -> int:
    """Which of them (`CHAOS_SEED`): the first request at which an operator is killed."""
    return int(os.environ.get("CHAOS_SEED", "3"))
