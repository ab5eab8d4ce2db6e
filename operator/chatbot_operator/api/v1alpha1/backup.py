"""ChatbotBackup: one backup of an instance's database, and what proves it. It outlives the instance."""

from enum import StrEnum

from pydantic import Field

from chatbot_operator.api.v1alpha1.common import ApiModel, Condition, DnsLabel, StatusModel
from chatbot_operator.api.v1alpha1.instance_status import JobStatus, RetryStatus
from chatbot_operator.api.v1alpha1.schema import list_map


class Method(StrEnum):
    """How a backup is made."""

    LOGICAL = "Logical"


class InstanceRef(ApiModel):
    """The instance whose database is backed up."""

    name: DnsLabel = Field(max_length=30, description="Name of a ChatbotInstance in the same namespace.")


class ChatbotBackupSpec(ApiModel):
    """What to back up, and how. Immutable: another backup is another object."""

    instance_ref: InstanceRef = Field(description="Whose database.")
    method: Method = Field(
        default=Method.LOGICAL,
        description="Logical: pg_dump from one snapshot, encrypted with age before it reaches the target.",
    )
    timeout_seconds: int = Field(default=3600, ge=60, le=86400, description="Deadline of each of the Jobs: making the backup, proving it.")


class TableRows(StatusModel):
    """Rows of one table, counted in the snapshot that was dumped."""

    name: str = Field(max_length=260, description="Schema and name.")
    rows: int = Field(ge=0, description="Number of rows.")


class Archive(StatusModel):
    """What was stored. The manifest beside it says the same, and was written last."""

    object_key: str = Field(description="Directory on the target, with the archive and its manifest.")
    size_bytes: int = Field(ge=0, description="Size of the encrypted archive.")
    sha256: str = Field(description="Of the encrypted archive, taken while it was written.")
    key_fingerprint: str = Field(description="Of the age recipient that it was encrypted for.")
    postgres_version: str = Field(default="", description="Version of the server.")
    system_identifier: str = Field(default="", description="PostgreSQL's own identity of the data.")
    schema_revision: str = Field(default="", description="Revision of the schema, empty without one.")
    snapshot_time: str | None = Field(default=None, description="RFC 3339 time of the snapshot: what was committed later is not in it.")
    tables: list[TableRows] = Field(
        default_factory=list, max_length=50, description="The largest tables.", json_schema_extra=list_map("name")
    )


class ChatbotBackupStatus(StatusModel):
    """What became of the backup; written once a pass, and only if it differs."""

    observed_generation: int = Field(default=-1, description="Generation of the last pass.")
    conditions: list[Condition] = Field(
        default_factory=list, max_length=8, description="Succeeded and Verified, by type.", json_schema_extra=list_map("type")
    )
    archive: Archive | None = Field(default=None, description="What was stored; absent until Succeeded.")
    instance_uid: str | None = Field(default=None, description="uid of the instance that was backed up.")
    start_time: str | None = Field(default=None, description="RFC 3339 time at which the first Job was asked for.")
    completion_time: str | None = Field(default=None, description="RFC 3339 time at which the archive was stored.")
    duration_seconds: int | None = Field(default=None, description="From start to completion.")
    jobs: list[JobStatus] = Field(
        default_factory=list, max_length=4, description="Jobs by name: attempts and results.", json_schema_extra=list_map("name")
    )
    retry: RetryStatus | None = Field(default=None, description="Persisted back-off after an error.")
    last_handled_reconcile_at: str | None = Field(default=None, description="Value of the last handled reconcile-at request.")
