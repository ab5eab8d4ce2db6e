"""Parts that several components are made of: claims, Jobs, Services, and what a person decides for all."""

from typing import Final

from chatbot_operator.desired import names
from chatbot_operator.desired.inputs import Inputs
from chatbot_operator.desired.metadata import Object, child, selector
from chatbot_operator.desired.pods import Pod, secrets_hash

JOB_HISTORY_SECONDS: Final = 86400
"""How long an ended Job stays for people to read; its result is in the status by then."""


def claim_spec(size: str, storage_class: str | None) -> Object:
    """Return the spec of a claim of one pod."""
    spec: Object = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    if storage_class:
        spec["storageClassName"] = storage_class
    return spec


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
