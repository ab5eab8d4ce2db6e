"""docs/runtime-contract.md says what the code does: variables equal `Settings`, the operator sets no other, metrics equal `metrics.py`."""

from collections.abc import Iterator
from typing import Any

import yaml
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase
from pydantic import SecretStr

from chatbot_runtime import metrics as ours
from chatbot_runtime.settings import Role, Settings
from tests.support import contract_document as page
from tests.support.golden import CASES, GOLDEN

COMMANDS = {role.value for role in Role}
KINDS = {Counter: "counter", Gauge: "gauge", Histogram: "histogram"}


def settings_names() -> set[str]:
    """Return what `Settings` reads, secrets by the name that the contract gives them."""
    fields = Settings.model_fields.items()
    return {name.upper() + ("_FILE" if SecretStr in (field.annotation, *_arguments(field)) else "") for name, field in fields}


def _arguments(field: Any) -> tuple[Any, ...]:
    return getattr(field.annotation, "__args__", ())


def our_metrics() -> dict[str, MetricWrapperBase]:
    """Return all metrics of the runtime by the name that is exposed."""
    found = [item._gauge if isinstance(item, ours.LateGauge) else item for item in vars(ours).values()]
    made = [item for item in found if isinstance(item, MetricWrapperBase)]
    return {f"{item._name}_total" if isinstance(item, Counter) else item._name: item for item in made}


def test_the_tables_of_variables_equal_the_settings() -> None:
    named = page.environment()
    assert len(named) == len(set(named))
    assert set(named) == settings_names()


def _runtime_containers(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if node.get("args") and node["args"][0] in COMMANDS and "env" in node:
            yield node
        for child in node.values():
            yield from _runtime_containers(child)
    elif isinstance(node, list):
        for child in node:
            yield from _runtime_containers(child)


def test_the_operator_sets_no_variable_that_is_not_in_the_contract() -> None:
    documents = [document for case in CASES for document in yaml.safe_load_all((GOLDEN / "expected" / f"{case}.yaml").read_text())]
    containers = list(_runtime_containers(documents))
    assert {container["args"][0] for container in containers} == COMMANDS
    rendered = {item["name"] for container in containers for item in container["env"]}
    assert rendered <= set(page.environment())


def test_the_table_of_metrics_equals_the_code() -> None:
    said = {row.name: (row.kind, row.labels) for row in page.metrics()}
    assert len(said) == len(page.metrics())
    assert said == {name: (KINDS[type(item)], item._labelnames) for name, item in our_metrics().items()}


def test_gauges_are_exposed_by_the_commands_that_the_table_names() -> None:
    late = {item.name for item in vars(ours).values() if isinstance(item, ours.LateGauge)}
    for role in page.LONG_RUNNING:
        said = {row.name for row in page.metrics() if row.kind == "gauge" and role in row.roles and row.name not in late}
        assert said == {gauge._name for gauge in ours.ROLE_GAUGES[Role(role)]}
