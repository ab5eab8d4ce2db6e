"""Metadata of children: labels that prove whose they are, the owner, and what keeps other tools from pruning what must outlive."""

import hashlib
from typing import Any, Final

import orjson

from chatbot_operator.constants import (
    ANNOTATION_ARGO_OPTIONS,
    ANNOTATION_INPUTS_HASH,
    ANNOTATION_TEMPLATE_HASH,
    API_VERSION,
    LABEL_COMPONENT,
    LABEL_INSTANCE,
    LABEL_INSTANCE_UID,
    LABEL_MANIFEST_HASH,
    LABEL_NUMBER,
)
from chatbot_operator.desired.inputs import Inputs
from chatbot_operator.model.fingerprint import fingerprint, template_fingerprint

Object = dict[str, Any]

_KINDS: Final = {
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "Job": "batch/v1",
    "Service": "v1",
    "ServiceAccount": "v1",
    "PersistentVolumeClaim": "v1",
    "PodDisruptionBudget": "policy/v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "NetworkPolicy": "networking.k8s.io/v1",
}


def selector(inputs: Inputs, component: str, number: str = "") -> dict[str, str]:
    """Return the labels that choose the pods of a component. No uid among them: selectors can't change, and adoption must not restart."""
    found = {LABEL_INSTANCE: inputs.name, LABEL_COMPONENT: component}
    return {**found, LABEL_NUMBER: number} if number else found


def pod_labels(inputs: Inputs, component: str, number: str = "") -> dict[str, str]:
    """Return the labels of a component's pods."""
    return {
        **selector(inputs, component, number),
        "app.kubernetes.io/name": "chatbot",
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": "chatbot",
        "app.kubernetes.io/managed-by": "chatbot-operator",
    }


def child(inputs: Inputs, kind: str, name: str, component: str, spec: Object | None = None, *, number: str = "", **fields: Any) -> Object:
    """Return a child that dies with its instance.

    Args:
        inputs: Whose child.
        kind: A kind that instances are made of.
        name: Its name.
        component: Value of the component label.
        spec: `spec`, if the kind has one.
        number: WhatsApp Web number it belongs to.
        fields: Other top-level fields.
    """
    # No blockOwnerDeletion: nothing waits for children in the foreground, and it needs a right of its own, whose check a new CRD can delay.
    owner = {"apiVersion": API_VERSION, "kind": "ChatbotInstance", "name": inputs.name, "uid": inputs.uid, "controller": True}
    made = _base(inputs, kind, name, component, number)
    made["metadata"]["ownerReferences"] = [owner]
    return {**made, **({"spec": spec} if spec is not None else {}), **fields}


def kept(inputs: Inputs, kind: str, name: str, component: str, spec: Object, *, number: str = "", **annotations: str) -> Object:
    """Return a child that outlives its instance: without an owner, and never pruned by Argo CD."""
    made = _base(inputs, kind, name, component, number)
    made["metadata"]["annotations"] = {ANNOTATION_ARGO_OPTIONS: "Prune=false", **annotations}
    return {**made, "spec": spec}


def workload(inputs: Inputs, kind: str, name: str, component: str, spec: Object, decided: Object, *, number: str = "") -> Object:
    """Return a Deployment or StatefulSet that records what its pod template was made from.

    Args:
        inputs: Whose child.
        kind: Deployment or StatefulSet.
        name: Its name.
        component: Value of the component label.
        spec: Its spec with the pod template.
        decided: All that a person decides about this workload, as JSON; nothing that only a newer operator changes.
        number: WhatsApp Web number it belongs to.
    """
    made = child(inputs, kind, name, component, spec, number=number)
    made["metadata"]["annotations"] = {
        ANNOTATION_INPUTS_HASH: digest(decided),
        ANNOTATION_TEMPLATE_HASH: template_fingerprint(made),
    }
    return made


def once(made: Object) -> Object:
    """Return a child that is never changed, marked with what it was made from.

    What lives tells whether something else is wanted now only by this mark: a mutating webhook may have changed all the rest.
    """
    metadata = made["metadata"]
    return {**made, "metadata": {**metadata, "labels": {**metadata["labels"], LABEL_MANIFEST_HASH: fingerprint(made)}}}


def digest(value: Any, size: int = 8) -> str:
    """Return a hash of JSON as `2 * size` hex digits."""
    return hashlib.blake2b(orjson.dumps(value, option=orjson.OPT_SORT_KEYS), digest_size=size).hexdigest()


def _base(inputs: Inputs, kind: str, name: str, component: str, number: str) -> Object:
    labels = {**pod_labels(inputs, component, number), LABEL_INSTANCE_UID: inputs.uid}
    return {
        "apiVersion": _KINDS[kind],
        "kind": kind,
        "metadata": {"name": name, "namespace": inputs.namespace, "labels": labels},
    }
