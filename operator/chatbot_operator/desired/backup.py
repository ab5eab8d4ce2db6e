"""Backups: the volume they go to, the Job that makes one, and the Job that proves it."""

from dataclasses import dataclass
from typing import Final

from chatbot_operator.api.v1alpha1.instance import Mode
from chatbot_operator.constants import API_VERSION, LABEL_BACKUP, POSTGRES_PORT
from chatbot_operator.desired import names
from chatbot_operator.desired.inputs import Inputs
from chatbot_operator.desired.metadata import Object, child, kept, once
from chatbot_operator.desired.parts import claim_spec, job_spec
from chatbot_operator.desired.pods import POSTGRES_UID, Defaults, Pod, claim_volume, render_template
from chatbot_operator.desired.references import uses_of

MOUNT: Final = "/var/lib/backups"
_DEFAULTS: Final = Defaults(cpu="100m", memory="128Mi", memory_limit="512Mi")
_SLACK_SECONDS: Final = 900
"""Between the work's own limit and the Job's, which counts from before its pod has a node, a volume and an image."""


@dataclass(frozen=True, slots=True)
class Run:
    """Which ChatbotBackup a Job works for, and which attempt it is."""

    name: str
    uid: str
    object_key: str
    key: str
    attempt: int
    timeout_seconds: int
    sha256: str = ""
    """Of the archive that is to be proven, as its maker reported it."""
    size_bytes: int = 0


def object_key(instance_uid: str, backup_uid: str) -> str:
    """Return the directory of a backup on its target: unique for ever, whatever names are used again."""
    return f"{instance_uid}/logical/{backup_uid}"


def job_name(component: str, key: str, attempt: int) -> str:
    """Return the name of one attempt of a Job. The key is unique for the backup, whose own name can be too long to be a part."""
    return f"{component}-{key}-{attempt}"


def render_claim(inputs: Inputs) -> Object | None:
    """Return the claim that backups go to, or None without a target."""
    if inputs.spec.backup is None:
        return None
    volume, name = inputs.spec.backup.target.persistent_volume_claim, names.backup_claim(inputs.name)
    return kept(inputs, "PersistentVolumeClaim", name, names.BACKUP, claim_spec(inputs, name, volume.size, volume.storage_class_name))


def render_job(inputs: Inputs, component: str, run: Run) -> Object:
    """Return the Job that makes a backup (`names.BACKUP`) or reads it back (`names.BACKUP_VERIFY`).

    The claim is mounted by one of them at a time, and never beside the server's: no podAffinity to another pod is needed.
    """
    env = {"BACKUP_DIR": MOUNT, "BACKUP_OBJECT_KEY": run.object_key, "BACKUP_TIMEOUT_S": str(run.timeout_seconds)}
    if component == names.BACKUP and inputs.spec.database.mode is Mode.MANAGED:
        env |= {
            "DATABASE_HOST": names.component_name(inputs.name, names.POSTGRES),
            "DATABASE_PORT": str(POSTGRES_PORT),
            "DATABASE_NAME": "chatbot",
            "DATABASE_USER": "chatbot_owner",
        }
    if run.sha256:
        env |= {"BACKUP_EXPECTED_SHA256": run.sha256, "BACKUP_EXPECTED_SIZE": str(run.size_bytes)}
    pod = Pod(
        component=component,
        account=names.component_name(inputs.name, names.BACKUP),
        uid=POSTGRES_UID,
        image=inputs.operator.postgres_image,
        command=component,
        env=env,
        uses=uses_of(component, inputs.name, inputs.spec),
        defaults=_DEFAULTS,
        resources=inputs.spec.backup.resources if inputs.spec.backup else None,
        scheduling=inputs.spec.database.scheduling,
        volumes=(claim_volume("backups", names.backup_claim(inputs.name)),),
        mounts={"backups": MOUNT},
        restart="Never",
    )
    spec = job_spec(run.timeout_seconds + _SLACK_SECONDS, render_template(inputs, pod))
    made = child(inputs, "Job", job_name(component, run.key, run.attempt), component, spec)
    owner = {"apiVersion": API_VERSION, "kind": "ChatbotBackup", "name": run.name, "uid": run.uid, "controller": True}
    metadata = made["metadata"]
    return once({**made, "metadata": {**metadata, "labels": {**metadata["labels"], LABEL_BACKUP: run.name}, "ownerReferences": [owner]}})
