"""Every manifest of five instances, as files: a change of what users get shows as a diff. `GOLDEN_UPDATE=1` writes them anew.

Needs nothing. `templates.yaml` holds the hashes that decide whether an upgrade of the operator restarts anything.
"""

import copy
import os
from typing import Any

import pytest
import yaml

from chatbot_operator.constants import ANNOTATION_INPUTS_HASH, ANNOTATION_TEMPLATE_HASH
from chatbot_operator.desired import names
from chatbot_operator.desired.backup import Run, render_job
from chatbot_operator.desired.inputs import Inputs
from chatbot_operator.model.targets import IDLE
from tests.support.golden import CASES, GOLDEN, live_manifests, run_case, spec_of

UPDATE = os.environ.get("GOLDEN_UPDATE") == "1"


def check(name: str, content: Any) -> None:
    """Compare with a golden file, or write it."""
    path = GOLDEN / "expected" / name
    text = yaml.safe_dump_all(content, sort_keys=False, width=140) if isinstance(content, list) else yaml.safe_dump(content, width=140)
    if UPDATE:
        path.write_text(text)
    assert text == path.read_text(), f"{name} differs; look at the diff after GOLDEN_UPDATE=1"


@pytest.mark.parametrize("case", CASES)
def test_manifests_are_as_recorded(case: str) -> None:
    cluster = run_case(case)
    check(f"{case}.yaml", [copy.deepcopy(dict(manifest)) for manifest in live_manifests(cluster)])


@pytest.mark.parametrize("case", CASES)
def test_a_case_comes_to_rest_as_wanted(case: str) -> None:
    cluster = run_case(case)
    assert cluster.condition("Ready") == (("False", "Hibernated") if case == "hibernated" else ("True", "AllReady"))
    decision = cluster.run_pass()
    assert decision.effects == ()
    assert decision.status == cluster.status


def test_the_jobs_of_a_backup_are_as_recorded() -> None:
    cluster = run_case("full")
    snapshot = cluster.snapshot()
    inputs = Inputs("chat", "demo", "uid-1", spec_of("full"), IDLE, snapshot.operator, snapshot.secrets)
    run = Run("nightly", "uid-2", "uid-1/logical/uid-2", "0123456789", 1, 3600)
    check("backup-jobs.yaml", [render_job(inputs, component, run) for component in (names.BACKUP, names.BACKUP_VERIFY)])


def test_template_hashes_are_as_recorded() -> None:
    # A hash that changes here means: after the upgrade this workload waits as PendingOperatorUpdate (templateHash), or restarts (inputsHash
    # too). The second must never happen: `inputsHash` may only change when a person changes the spec.
    found = {}
    for case in CASES:
        for manifest in live_manifests(run_case(case)):
            annotations = manifest["metadata"].get("annotations", {})
            if ANNOTATION_TEMPLATE_HASH in annotations:
                name = f"{case} {manifest['kind']} {manifest['metadata']['name']}"
                found[name] = {"inputs": annotations[ANNOTATION_INPUTS_HASH], "template": annotations[ANNOTATION_TEMPLATE_HASH]}
    check("templates.yaml", found)
