"""Parts that several components are made of: claims, Jobs, Services, and what a person decides for all."""

from typing import Final

from chatbot_operator.desired import names
from chatbot_operator.desired.inputs import Claim, Inputs
from chatbot_operator.desired.metadata import Object, child, selector
from chatbot_operator.desired.pods import Pod, secrets_hash
from chatbot_operator.desired.quantity import canonical, larger

JOB_HISTORY_SECONDS: Final = 86400
"""How long an ended Job stays for people to read; its result is in the status by then."""


def claim_spec(inputs: Inputs, name: str, size: str, storage_class: str | None) -> Object:
    """Return the spec of a claim of one pod.

    A claim that exists, for example one that an earlier instance left, keeps its class and never shrinks: Kubernetes refuses both. Its
    class is always rendered, because a field that an earlier instance applied would otherwise be taken out, which is refused too.
    """
    live = inputs.observed.claims.get(name, Claim())
    spec: Object = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": larger(canonical(size), live.size)}}}
    chosen = live.storage_class or storage_class
    return {**spec, "storageClassName": chosen} if chosen else spec


def job_spec(seconds: int, template: Object) -> Object:
    """Return the spec of a Job with exactly one pod: a retry is a new Job, so that no attempt is ever hidden by another."""
    return {
        "backoffLimit": 0,
        "activeDeadlineSeconds": seconds,
        "ttlSecondsAfterFinished": JOB_HISTORY_SECONDS,
        "template": template,
    }


def service(inputs: Inputs, component: str, ports: dict[str, int]) -> Object:
    """Return a Service with an address of its own, whose ports go to the ports of the same name."""
    listed = [{"name": name, "port": port, "targetPort": name, "protocol": "TCP"} for name, port in ports.items()]
    spec = {"selector": selector(inputs, component), "ports": listed}
    return child(inputs, "Service", names.component_name(inputs.name, component), component, spec)


def shared_decisions(inputs: Inputs, pod: Pod) -> Object:
    """Return what a person decides for all components: Secrets' content and pull Secrets."""
    return {"secrets": secrets_hash(inputs, pod.uses), "pull": [ref.name for ref in inputs.spec.image_pull_secrets]}


def decided_cloud(inputs: Inputs) -> Object:
    """Return what a person decides about the Cloud API number."""
    cloud = inputs.spec.channels.cloud
    return cloud.model_dump(mode="json", exclude_defaults=True) if cloud else {}
