"""Pure. What holds for every manifest of every instance: canonical, repeatable, restricted, short names, no secret in sight."""

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatbot_operator.desired import names
from chatbot_operator.desired.references import generated_secrets, references, secret_names, uses_of
from chatbot_operator.engine.decide import decide
from chatbot_operator.model.effect import Apply
from tests.support.golden import CASES, live_manifests, run_case, spec_of
from tests.support.simcluster import Cluster, minimal


@pytest.fixture(scope="module")
def everything() -> dict[str, list[Any]]:
    return {case: list(live_manifests(run_case(case))) for case in CASES}


def walk(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    yield path, value
    if isinstance(value, dict):
        for name, below in value.items():
            yield from walk(below, f"{path}.{name}")
    if isinstance(value, list):
        for index, below in enumerate(value):
            yield from walk(below, f"{path}[{index}]")


def templates(manifests: list[Any]) -> Iterator[tuple[str, Any]]:
    for manifest in manifests:
        if "template" in manifest.get("spec", {}):
            yield manifest["metadata"]["name"], manifest["spec"]["template"]


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_empty_or_dropped_by_the_api_server(everything: dict[str, list[Any]], case: str) -> None:
    for manifest in everything[case]:
        for path, value in walk(manifest):
            assert value not in ({}, [], "", None), f"{manifest['kind']} {path}"
            if value is False:
                assert path.rpartition(".")[2] in ("automountServiceAccountToken", "enableServiceLinks", "allowPrivilegeEscalation"), path
            if value == 0 and value is not False:
                assert path.rpartition(".")[2] in ("replicas", "backoffLimit", "maxUnavailable", "tolerationSeconds"), path


@pytest.mark.parametrize("case", CASES)
def test_deciding_twice_is_deciding_the_same_and_changes_no_input(case: str) -> None:
    cluster = run_case(case)
    cluster.things.pop(next(key for key in sorted(cluster.things) if key.kind == "ServiceAccount"))
    snapshot = cluster.snapshot()
    before = copy.deepcopy(snapshot)
    first, second = decide(snapshot), decide(snapshot)
    assert first == second
    assert any(isinstance(effect, Apply) for effect in first.effects)
    assert snapshot == before


@pytest.mark.parametrize("case", CASES)
def test_pods_are_restricted_have_no_token_and_bounded_scratch_space(everything: dict[str, list[Any]], case: str) -> None:
    for name, template in templates(everything[case]):
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"
        (container,) = spec["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"], name
        assert all("sizeLimit" in volume["emptyDir"] for volume in spec["volumes"] if "emptyDir" in volume)
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in spec["volumes"]}


@pytest.mark.parametrize("case", CASES)
def test_every_object_says_whose_it_is_and_what_outlives_has_no_owner(everything: dict[str, list[Any]], case: str) -> None:
    for manifest in everything[case]:
        metadata = manifest["metadata"]
        assert metadata["labels"]["chatbotops.io/instance"] == "demo"
        assert metadata["labels"]["chatbotops.io/instance-uid"] == "uid-1"
        assert "app.kubernetes.io/instance" not in metadata["labels"], "Argo CD claims that label"
        if manifest["kind"] == "PersistentVolumeClaim":
            assert "ownerReferences" not in metadata
            assert metadata["annotations"]["argocd.argoproj.io/sync-options"] == "Prune=false"
        else:
            assert [owner["uid"] for owner in metadata["ownerReferences"]] == ["uid-1"]


@pytest.mark.parametrize("case", CASES)
def test_pod_templates_and_selectors_hold_no_uid_so_that_adoption_restarts_nothing(everything: dict[str, list[Any]], case: str) -> None:
    for manifest in everything[case]:
        if manifest["kind"] in ("Deployment", "StatefulSet"):
            assert not [path for path, value in walk(manifest["spec"]) if value == "uid-1"]


def test_no_value_of_a_secret_is_in_any_manifest() -> None:
    cluster = run_case("full")
    values = {value for keys in cluster.secrets.values() for value in keys.values()}
    text = str(live_manifests(cluster))
    assert not [value for value in values if value in text]


def test_secrets_are_mounted_as_files_and_never_given_in_the_environment(everything: dict[str, list[Any]]) -> None:
    for case in CASES:
        for _, template in templates(everything[case]):
            (container,) = template["spec"]["containers"]
            for variable in container.get("env", []):
                assert "valueFrom" not in variable
                if re.search(r"PASSWORD|SECRET|TOKEN|URL", variable["name"]) and variable["name"] != "PUBLIC_URL":  # people type it in
                    assert variable["name"].endswith("_FILE"), variable


def test_the_longest_names_fit() -> None:
    name, number = "a" * 30, "b" * 12
    cluster = Cluster(minimal(workerWeb={"numbers": [{"name": number}]}, cache={"durability": "Persistent"}), name=name)
    cluster.settle()
    assert cluster.condition("Ready") == ("True", "AllReady")
    for key, thing in cluster.things.items():
        assert len(key.name) <= 63, key
        # Pods of a StatefulSet carry `<name>-<hash of 10>` as a label, pods of a Job `<name>-<5>` as their name.
        assert len(key.name) <= {"StatefulSet": 52, "Job": 57}.get(key.kind, 63), key
        assert all(len(value) <= 63 for value in thing.labels.values())


def test_a_web_number_has_exactly_one_pod_and_a_volume_of_its_own(everything: dict[str, list[Any]]) -> None:
    workers = [m for m in everything["full"] if m["kind"] == "StatefulSet" and "-web-" in m["metadata"]["name"]]
    assert [worker["spec"]["replicas"] for worker in workers] == [1, 1]
    claims = [
        v["persistentVolumeClaim"]["claimName"]
        for w in workers
        for v in w["spec"]["template"]["spec"]["volumes"]
        if "persistentVolumeClaim" in v
    ]
    assert claims == ["demo-web-main", "demo-web-second"]


@pytest.mark.parametrize("case", CASES)
def test_every_secret_that_is_read_is_generated_or_referenced(case: str) -> None:
    spec = spec_of(case)
    known = set(secret_names("demo", spec))
    for component in ("postgres", "redis", "migrate", "app", "scheduler", "worker-web"):
        if component in ("postgres", "redis") and case == "external":
            continue
        assert {use.secret for use in uses_of(component, "demo", spec)} <= known
    assert {secret.name for secret in generated_secrets("demo", spec)}.isdisjoint(references("demo", spec))


@pytest.mark.parametrize(
    ("observed", "foreign", "applied"),
    [(None, False, 2), (0, False, 2), (3, False, 3), (3, True, None), (0, True, 2)],
)
def test_under_an_autoscaler_the_number_of_pods_is_never_taken_away(observed: int | None, foreign: bool, applied: int | None) -> None:
    cluster = Cluster(minimal(app={"autoscaling": {"minReplicas": 2, "maxReplicas": 8}}))
    cluster.settle()
    key = cluster.key("Deployment", "demo-app")
    if observed is None:
        del cluster.things[key]
    else:
        cluster.things[key].body["spec"]["replicas"] = observed
        cluster.things[key].body["metadata"]["labels"]["app.kubernetes.io/name"] = "drift"
        cluster.things[key].replicas_managers = "kube-controller-manager" if foreign else ""
    (effect,) = [e for e in decide(cluster.snapshot()).effects if isinstance(e, Apply) and e.manifest["metadata"]["name"] == key.name]
    assert effect.manifest["spec"].get("replicas") == applied


def test_a_disruption_budget_only_where_it_does_not_block_drains(everything: dict[str, list[Any]]) -> None:
    budgets = {case: [m["spec"] for m in manifests if m["kind"] == "PodDisruptionBudget"] for case, manifests in everything.items()}
    assert budgets["external"] == []
    assert budgets["minimal"][0]["maxUnavailable"] == 1


def test_rendering_never_reads_the_release_of_the_spec() -> None:
    # Only a machine moves a release: what the spec asks for may not be migrated yet.
    sources = [path.read_text() for path in Path(names.__file__).parent.glob("*.py")]
    assert sources
    assert not [text for text in sources if "spec.release" in text.replace("`spec.release`", "")]
