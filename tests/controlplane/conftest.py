"""Needs the control plane of the test bed; every test of this layer carries the marker `controlplane`."""

from pathlib import Path

import pytest

from tests.support.fixtures import (  # noqa: F401 - fixtures and hooks are found by name
    admin,
    as_operator,
    audit,
    cluster,
    crds,
    fault_proxy,
    namespace,
    operator_account,
    operator_logs,
    pytest_runtest_makereport,
    start_operator,
    through_proxy,
)

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in this folder."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.controlplane)
