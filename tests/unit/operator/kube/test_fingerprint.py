"""Fingerprints see our fields, all of them and nothing else."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chatbot_operator.model.fingerprint import fingerprint, other_managers, project_owned, template_fingerprint

Json = Any

KEYED = {"containers": "name", "env": "name", "volumes": "name"}
"""Associative lists of the made-up schema below; `finalizers` is a set; every other list is atomic."""

names = st.sampled_from(["a", "b", "c", "d", "e"])
scalars = st.one_of(st.integers(-5, 5), st.booleans(), st.text("xyz", max_size=3))
atomic = st.lists(scalars, max_size=3)


leaves = st.one_of(scalars, atomic)
bodies = st.recursive(
    st.dictionaries(names, leaves, min_size=1, max_size=3),
    lambda inner: st.dictionaries(st.one_of(names, st.sampled_from(sorted(KEYED))), inner, min_size=1, max_size=3),
    max_leaves=6,
)


def shaped(value: Json) -> Json:
    """Turn maps under the names of associative lists into lists, so that both list types appear at any depth."""
    if not isinstance(value, dict):
        return value
    return {
        key: [{"name": name, "value": shaped(item)} for name, item in inner.items()]
        if key in KEYED and isinstance(inner, dict)
        else shaped(inner)
        for key, inner in value.items()
        if not (key in KEYED and not isinstance(inner, dict))
    }


def fields_of(value: Json, key: str = "") -> Json:
    """Return the `fieldsV1` tree that the API server records for an applied value."""
    if isinstance(value, dict) and value:
        return {f"f:{name}": fields_of(inner, name) for name, inner in value.items()}
    if isinstance(value, list) and key in KEYED:
        return {"k:" + json.dumps({KEYED[key]: item[KEYED[key]]}, separators=(",", ":")): {".": {}, **fields_of(item)} for item in value}
    return {}


def with_strangers(value: Json, key: str = "") -> Json:
    """Return the value with fields and items of others everywhere."""
    if isinstance(value, dict):
        return {**{name: with_strangers(inner, name) for name, inner in value.items()}, "stranger": {"x": 1}}
    if isinstance(value, list) and key in KEYED:
        return [{"name": "stranger", "value": 0}, *(with_strangers(item) for item in value)]
    return value


def live_of(manifest: Json, *, strangers: bool = False) -> Json:
    spec = with_strangers(manifest["spec"]) if strangers else manifest["spec"]
    entry = {"manager": "chatbot-operator", "operation": "Apply", "fieldsV1": {"f:spec": fields_of(manifest["spec"])}}
    other = {"manager": "other", "operation": "Update", "fieldsV1": {"f:spec": {"f:stranger": {}}}}
    return {
        "kind": "Deployment",
        "metadata": {"name": "x", "uid": "u", "resourceVersion": "9", "managedFields": [other, entry]},
        "spec": spec,
        "status": {"ready": 1},
    }


specs = bodies.map(shaped).filter(bool)


@given(specs)
def test_projection_of_what_we_applied_has_the_rendered_fingerprint_whatever_others_add(spec: Json) -> None:
    manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": spec}
    assert fingerprint(project_owned(live_of(manifest))) == fingerprint(manifest)
    assert fingerprint(project_owned(live_of(manifest, strangers=True))) == fingerprint(manifest)


@given(specs, st.data())
def test_any_change_of_an_owned_scalar_changes_the_fingerprint(spec: Json, data: st.DataObject) -> None:
    manifest = {"kind": "Deployment", "metadata": {"name": "x"}, "spec": spec}
    live = json.loads(json.dumps(live_of(manifest, strangers=True)))
    paths = list(leaf_paths(spec))
    path = data.draw(st.sampled_from(paths))
    change(live["spec"], path)
    assert fingerprint(project_owned(live)) != fingerprint(manifest)


def leaf_paths(value: Json, above: tuple[Any, ...] = ()) -> Any:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaf_paths(inner, (*above, name))
    elif isinstance(value, list) and above and above[-1] in KEYED:
        for item in value:
            yield from leaf_paths(item["value"], (*above, item["name"], "value"))
    else:
        yield above


def change(live: Json, path: tuple[Any, ...]) -> None:
    """Replace the value at a path of the rendered spec, in the live one."""
    for name in path[:-1]:
        live = next(item for item in live if item["name"] == name) if isinstance(live, list) else live[name]
    live[path[-1]] = "CHANGED"


def test_without_an_entry_of_ours_nothing_is_owned() -> None:
    live = {"kind": "Service", "metadata": {"name": "x", "managedFields": [{"manager": "kubectl", "operation": "Apply", "fieldsV1": {}}]}}
    assert fingerprint(project_owned(live)) == ""
    assert fingerprint(project_owned({"kind": "Service", "metadata": {"name": "x"}})) == ""


def test_our_updates_and_status_entries_are_not_what_we_applied() -> None:
    fields = {"f:spec": {"f:a": {}}}
    entries = [
        {"manager": "chatbot-operator", "operation": "Update", "fieldsV1": fields},
        {"manager": "chatbot-operator", "operation": "Apply", "subresource": "status", "fieldsV1": fields},
    ]
    assert project_owned({"kind": "Service", "metadata": {"managedFields": entries}, "spec": {"a": 1}}) == {"kind": "Service"}


def test_identity_is_no_part_of_a_fingerprint_but_our_metadata_is() -> None:
    base = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "n", "labels": {"x": "1"}}, "spec": {"a": 1}}
    moved = {**base, "metadata": {**base["metadata"], "name": "b", "uid": "u", "resourceVersion": "7"}, "status": {"x": 1}}  # type: ignore[dict-item]
    assert fingerprint(moved) == fingerprint(base)
    for field, value in (("labels", {"x": "2"}), ("annotations", {"y": "1"}), ("ownerReferences", [{"uid": "o"}])):
        assert fingerprint({**base, "metadata": {**base["metadata"], field: value}}) != fingerprint(base)  # type: ignore[dict-item]


def test_a_secret_counts_by_its_metadata_because_watches_carry_no_values() -> None:
    full = {"kind": "Secret", "metadata": {"name": "s", "labels": {"a": "b"}}, "type": "Opaque", "data": {"k": "dg=="}}
    assert fingerprint(full) == fingerprint({"kind": "Secret", "metadata": {"labels": {"a": "b"}}})


def test_set_items_and_index_items_are_told_apart_from_strangers() -> None:
    entry = {
        "manager": "chatbot-operator",
        "operation": "Apply",
        "fieldsV1": {"f:metadata": {"f:finalizers": {".": {}, 'v:"ours"': {}}}, "f:spec": {"f:l": {"i:1": {}}}},
    }
    live = {"kind": "X", "metadata": {"managedFields": [entry], "finalizers": ["theirs", "ours"]}, "spec": {"l": ["a", "b"]}}
    assert project_owned(live) == {"kind": "X", "metadata": {"finalizers": ["ours"]}, "spec": {"l": ["b"]}}


def test_template_fingerprint_sees_only_the_pod_template() -> None:
    one = {"spec": {"replicas": 1, "template": {"spec": {"a": 1}}}}
    assert template_fingerprint(one) == template_fingerprint({"spec": {"replicas": 5, "template": {"spec": {"a": 1}}}})
    assert template_fingerprint(one) != template_fingerprint({"spec": {"replicas": 1, "template": {"spec": {"a": 2}}}})
    assert template_fingerprint({"spec": {}}) == ""


def test_other_managers_of_a_field_are_named() -> None:
    entries = [
        {"manager": "chatbot-operator", "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
        {"manager": "hpa", "operation": "Update", "subresource": "scale", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
        {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {"f:paused": {}}}},
    ]
    assert other_managers({"metadata": {"managedFields": entries}}, ("spec", "replicas")) == ("hpa",)
