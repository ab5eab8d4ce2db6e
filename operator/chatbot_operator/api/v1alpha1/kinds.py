"""Every kind of the API, in one list: what the generator writes and what the operator waits for at start."""

from typing import Final

from chatbot_operator.api.v1alpha1.backup import ChatbotBackupSpec, ChatbotBackupStatus
from chatbot_operator.api.v1alpha1.instance import ChatbotInstanceSpec
from chatbot_operator.api.v1alpha1.instance_status import ChatbotInstanceStatus
from chatbot_operator.api.v1alpha1.schema import Column, Kind, Rule


def _condition(name: str) -> str:
    return f'.status.conditions[?(@.type=="{name}")]'


_READY: Final = _condition("Ready")

CHATBOT_INSTANCE: Final = Kind(
    name="ChatbotInstance",
    plural="chatbotinstances",
    short_names=("cbi",),
    description="One WhatsApp chatbot: its API and Admin UI, scheduler, WhatsApp Web workers, PostgreSQL and Redis.",
    spec=ChatbotInstanceSpec,
    status=ChatbotInstanceStatus,
    columns=(
        Column("Ready", f"{_READY}.status", "Whether the chatbot serves at the wanted generation."),
        Column("Reason", f"{_READY}.reason", "Why it is ready or not."),
        Column("Release", ".status.release.stable", "Release that serves."),
        Column("App", '.status.components[?(@.name=="app")].replicas', "Ready and wanted pods of app."),
        Column(
            "Worker",
            '.status.conditions[?(@.type=="WorkerReady")].status',
            "Whether the workers of all WhatsApp Web numbers run, paired or not.",
        ),
        Column("Age", ".metadata.creationTimestamp", "Time since creation.", type="date"),
        Column("Wanted", ".spec.release.version", "Release asked for.", wide=True),
        Column("Schema", ".status.release.schemaRevision", "Database revision.", wide=True),
        Column("Lifecycle", ".spec.lifecycle", "Running, Paused or Hibernated.", wide=True),
        Column("Message", f"{_READY}.message", "What is wrong, what happens next, what to do.", wide=True),
    ),
    object_rules=(
        Rule(
            "self.metadata.name.size() <= 30 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
            "metadata.name must be a DNS label that begins with a letter and has at most 30 characters",
        ),
    ),
)

CHATBOT_BACKUP: Final = Kind(
    name="ChatbotBackup",
    plural="chatbotbackups",
    short_names=("cbb",),
    description="One backup of the database of a chatbot. Only a Verified one counts.",
    spec=ChatbotBackupSpec,
    status=ChatbotBackupStatus,
    columns=(
        Column("Instance", ".spec.instanceRef.name", "Whose database."),
        Column("Method", ".spec.method", "How it is made."),
        Column("Succeeded", f"{_condition('Succeeded')}.status", "Whether the archive and its manifest are stored."),
        Column("Verified", f"{_condition('Verified')}.status", "Whether all of it was read back, decrypted and understood."),
        Column("Reason", f"{_condition('Verified')}.reason", "Why it is verified or not (yet)."),
        Column("Size", ".status.archive.sizeBytes", "Bytes of the encrypted archive.", type="integer"),
        Column("Seconds", ".status.durationSeconds", "How long it took.", type="integer"),
        Column("Age", ".metadata.creationTimestamp", "Time since it was asked for.", type="date"),
        Column("Snapshot", ".status.archive.snapshotTime", "What was committed later is not in it.", wide=True),
        Column("Message", f"{_condition('Verified')}.message", "What is wrong, what happens next, what to do.", wide=True),
    ),
    object_rules=(
        Rule(
            "self.metadata.name.size() <= 50 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
            "metadata.name must be a DNS label of at most 50 characters",
        ),
        Rule("self.spec == oldSelf.spec", "spec is immutable; make another backup"),
    ),
)

KINDS: Final = (CHATBOT_INSTANCE, CHATBOT_BACKUP)
