"""Every kind of the API, in one list: what the generator writes and what the operator waits for at start."""

from typing import Final

from chatbot_operator.api.v1alpha1.instance import ChatbotInstanceSpec
from chatbot_operator.api.v1alpha1.instance_status import ChatbotInstanceStatus
from chatbot_operator.api.v1alpha1.schema import Column, Kind, Rule

_READY: Final = '.status.conditions[?(@.type=="Ready")]'

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

KINDS: Final = (CHATBOT_INSTANCE,)
