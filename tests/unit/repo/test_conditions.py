"""Each reason that code can give is explained in docs/conditions.md, and nothing is explained that no code gives. Needs nothing."""

import ast
import re
from pathlib import Path

from chatbot_operator.kube import kinds
from tools.generate import ROOT

OPERATOR = ROOT / "operator/chatbot_operator"
SOURCES = [
    *(OPERATOR / "gates").glob("*.py"),
    *(OPERATOR / "machines").glob("*.py"),
    OPERATOR / "errors.py",
    OPERATOR / "engine/decide.py",
    OPERATOR / "engine/health.py",
    OPERATOR / "engine/passes.py",
    OPERATOR / "engine/snapshot.py",
    OPERATOR / "kube/health.py",
    OPERATOR / "kube/crds.py",
]
NOT_REASONS = {
    # states and condition types of Kubernetes objects that are read, never given
    "AbleToScale", "ContainerCreating", "ContainersReady", "Established", "False", "Lost", "PodInitializing", "PodScheduled",
    "RunContainerError",
    "ScalingActive", "ScalingDisabled", "StartError", "True", "Unknown", "LoadBalancer",
}  # fmt: skip
KINDS = {value.kind for value in vars(kinds).values() if isinstance(value, kinds.Kind)}
COMPOSED = {"AbleToScaleFalse", "ScalingActiveFalse"}
"""Made from two words in code."""


def constants(path: Path) -> set[str]:
    """Return the CamelCase words that stand as text in a module, docstrings left out."""
    return {
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"[A-Z][A-Za-z]*[a-z]", node.value)
    }


def condition_types() -> set[str]:
    """Return what conditions are put under in the machines that derive a status."""
    words = constants(OPERATOR / "machines/status.py")
    named = re.compile(r"([A-Z][a-z]+)?(Ready|Current)|Reconciling|Stalled")
    of_backups = constants(OPERATOR / "machines/backup.py") & {"Succeeded", "Verified"}
    return ({word for word in words if named.fullmatch(word)} - {"AllReady", "Current"}) | of_backups


def contract_reasons() -> set[str]:
    """Return the reasons that the runtime contract lets a Job report."""
    row = next(line for line in (ROOT / "docs/runtime-contract.md").read_text().splitlines() if line.startswith("| `reason`"))
    return set(re.findall(r"`([A-Z][A-Za-z]+)`", row.split("|")[2]))


def given() -> set[str]:
    words = set().union(*(constants(path) for path in SOURCES))
    return (words | contract_reasons() | COMPOSED) - NOT_REASONS - KINDS - (condition_types() - {"Succeeded"})


def documented() -> tuple[set[str], set[str]]:
    """Return the documented types and reasons."""
    head, _, rest = (ROOT / "docs/conditions.md").read_text().partition("\n## All is well")
    first_cells = [line.split("|")[1] for line in rest.splitlines() if line.startswith("| `")]
    types = re.findall(r"^\| `([A-Za-z]+)`", head, re.M)
    return set(types), set(re.findall(r"`([A-Za-z]+)`", " ".join(first_cells)))


def test_every_reason_is_explained() -> None:
    assert given() - documented()[1] == set()


def test_nothing_is_explained_that_no_code_gives() -> None:
    assert documented()[1] - given() == set()


def test_every_type_is_explained() -> None:
    assert condition_types() == documented()[0]
