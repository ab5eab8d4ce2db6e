"""Status of ChatbotInstance: what the operator observed, and what it must remember between passes."""

from pydantic import Field

from chatbot_operator.api.v1alpha1.common import Condition, StatusModel
from chatbot_operator.api.v1alpha1.schema import list_map


class ComponentStatus(StatusModel):
    """One row of the components table."""

    name: str = Field(description="postgres, redis, migrate, app, scheduler or worker-web-<number>.")
    ready: str = Field(description="True, False or Unknown.")
    replicas: str = Field(default="", description="Ready and wanted pods, as 2/2.")
    image: str = Field(default="", description="Image that is applied.")
    reason: str = Field(default="", description="CamelCase reason.")
    message: str = Field(default="", max_length=512, description="What is wrong.")


class AppliedRelease(StatusModel):
    """The release that the components run or move to: its images, so that it can still be rendered once the spec asks for another."""

    version: str = Field(default="", description="Version of the release.")
    app: str = Field(default="", description="Image of app.")
    scheduler: str = Field(default="", description="Image of the scheduler.")
    worker_web: str = Field(default="", description="Image of worker-web.")
    key: str = Field(default="", description="Hash of release and database that the migration Job finished for.")


class ReleaseStatus(StatusModel):
    """Which release is wanted, which one serves."""

    desired: str | None = Field(default=None, description="Version asked for by the spec.")
    stable: str | None = Field(default=None, description="Version that last served with all gates passed.")
    schema_revision: str | None = Field(default=None, description="Database revision that the last migration Job reported.")
    applied: AppliedRelease | None = Field(default=None, description="Release that the components run or move to; its migration is done.")
    wanted_key: str | None = Field(default=None, description="Hash of the wanted release, its database and the limits of its migration.")
    sequence: int | None = Field(
        default=None,
        description="How often wantedKey changed: going back to an earlier release is a migration of its own, not the old one.",
    )


class JobStatus(StatusModel):
    """One Job of the instance: which attempt runs, and how the last one ended. The Job object itself is removed after a day."""

    name: str = Field(description="postgres-bootstrap or migrate.")
    key: str = Field(default="", description="Hash of what the Job is for; another key is another Job.")
    attempt: int = Field(default=1, description="Number of the attempt, part of the Job's name.")
    outcome: str = Field(default="", description="Empty until it ended, then Succeeded or Failed.")
    reason: str = Field(default="", description="CamelCase reason that the Job reported.")
    message: str = Field(default="", max_length=512, description="What the Job reported.")
    next_time: str | None = Field(
        default=None, description="RFC 3339 time of the next attempt; absent when only a change or a request makes one."
    )


class DatabaseStatus(StatusModel):
    """Identity of the managed database's data."""

    volume_generation: int = Field(default=1, description="N of the claim <instance>-pgdata-gN.")
    volume_uid: str | None = Field(default=None, description="uid of the claim that was bootstrapped.")
    system_identifier: str | None = Field(default=None, description="PostgreSQL's own identity of the data directory.")


class EndpointsStatus(StatusModel):
    """Where the instance answers inside the cluster."""

    api: str | None = Field(default=None, description="Base URL of the API.")
    admin_ui: str | None = Field(default=None, alias="adminUI", description="URL of the Admin UI.")
    admin_password_secret: str | None = Field(default=None, description="Secret and key with the administrator's password.")


class RetryFailure(StatusModel):
    """One object that could not be brought to its desired state."""

    object: str = Field(description="Kind namespace/name.")
    reason: str = Field(default="", description="CamelCase reason of the refusal.")
    message: str = Field(default="", max_length=512, description="What was refused.")
    stuck: bool = Field(default=False, description="Whether waiting can't help.")
    since: str | None = Field(default=None, description="RFC 3339 time of the first refusal in a row.")


class RetryStatus(StatusModel):
    """Back-off that survives a restart of the operator."""

    attempts: int = Field(default=0, description="Failed passes in a row.")
    next_time: str | None = Field(default=None, description="RFC 3339 time of the next try.")
    generation: int = Field(default=0, description="Generation that failed; a new one resets the back-off.")
    failures: list[RetryFailure] = Field(
        default_factory=list, max_length=16, description="Objects that wait for the next try.", json_schema_extra=list_map("object")
    )


class ChatbotInstanceStatus(StatusModel):
    """What was observed; written once a pass, and only if it differs."""

    observed_generation: int = Field(default=-1, description="Generation of the last pass.")
    conditions: list[Condition] = Field(
        default_factory=list, max_length=32, description="Conditions by type.", json_schema_extra=list_map("type")
    )
    components: list[ComponentStatus] = Field(
        default_factory=list, max_length=32, description="Components by name.", json_schema_extra=list_map("name")
    )
    release: ReleaseStatus = Field(default_factory=ReleaseStatus, description="Wanted and serving release.")
    database: DatabaseStatus = Field(default_factory=DatabaseStatus, description="Identity of the data.")
    endpoints: EndpointsStatus = Field(default_factory=EndpointsStatus, description="Where the instance answers.")
    jobs: list[JobStatus] = Field(
        default_factory=list, max_length=8, description="Jobs by name: attempts and results.", json_schema_extra=list_map("name")
    )
    retry: RetryStatus | None = Field(default=None, description="Persisted back-off after an error.")
    operator_version: str | None = Field(default=None, description="Operator version whose pod templates are applied.")
    last_handled_reconcile_at: str | None = Field(default=None, description="Value of the last handled reconcile-at request.")
