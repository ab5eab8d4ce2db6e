"""Spec of ChatbotInstance: desired state and policy of one chatbot."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from chatbot_operator.api.v1alpha1.common import (
    ApiModel,
    DnsLabel,
    ImageReference,
    Network,
    Quantity,
    Resources,
    Scheduling,
    SecretKeyRef,
    SecretName,
    SecretRef,
)
from chatbot_operator.api.v1alpha1.schema import Rule, external_only, grows, immutable, list_map, rules


class Lifecycle(StrEnum):
    """What the operator does with the instance."""

    RUNNING = "Running"
    PAUSED = "Paused"
    HIBERNATED = "Hibernated"


class DeletionPolicy(StrEnum):
    """What happens to volumes and generated Secrets when the instance is deleted."""

    RETAIN = "Retain"
    DELETE = "Delete"


class Mode(StrEnum):
    """Who runs a data store."""

    MANAGED = "Managed"
    EXTERNAL = "External"


class Switch(StrEnum):
    """An explicit on or off."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"


class TagPolicy(StrEnum):
    """Whether an image may be named by a tag that can move."""

    DENY = "Deny"
    ALLOW = "Allow"


class Durability(StrEnum):
    """Whether the cache survives a restart of its pod."""

    EPHEMERAL = "Ephemeral"
    PERSISTENT = "Persistent"


class LogLevel(StrEnum):
    """Verbosity of the runtime's logs."""

    DEBUG = "Debug"
    INFO = "Info"
    WARNING = "Warning"
    ERROR = "Error"


class ReleaseImages(ApiModel):
    """One image per component; an absent one falls back to `release.image`."""

    app: ImageReference | None = Field(default=None, description="Image of app and of the migration Job.")
    scheduler: ImageReference | None = Field(default=None, description="Image of the scheduler.")
    worker_web: ImageReference | None = Field(default=None, description="Image of worker-web.")


class Migrations(ApiModel):
    """Limits of the migration Job."""

    timeout_seconds: int = Field(default=900, ge=30, le=86400, description="Deadline of the migration Job.")
    lock_timeout_seconds: int = Field(default=10, ge=1, le=600, description="How long a migration statement waits for a lock.")


def _pinned(field: str) -> Rule:
    given = " && ".join(f"has(self.{part})" for part in ([field] if field == "image" else ["images", field]))
    return Rule(
        f"self.tagPolicy == 'Allow' || !({given}) || self.{field}.contains('@sha256:')",
        f"{field} must be pinned by digest (@sha256:...), or tagPolicy must be Allow",
        field,
    )


_EVERY_IMAGE = " && ".join(f"has(self.images.{part})" for part in ("app", "scheduler", "workerWeb"))
_RELEASE_RULES = (
    Rule(
        f"has(self.image) || (has(self.images) && {_EVERY_IMAGE})",
        "image is required unless images names app, scheduler and workerWeb",
        "image",
    ),
    *(_pinned(field) for field in ("image", "images.app", "images.scheduler", "images.workerWeb")),
)


class Release(ApiModel):
    """Which software runs."""

    model_config = ConfigDict(json_schema_extra=rules(*_RELEASE_RULES))

    version: str = Field(
        pattern=r"^[a-zA-Z0-9]([-a-zA-Z0-9._+]*[a-zA-Z0-9])?$",
        min_length=1,
        max_length=63,
        description="Name of the release, as people know it.",
    )
    image: ImageReference | None = Field(default=None, description="Image of every component; pinned by digest.")
    images: ReleaseImages | None = Field(default=None, description="Images per component; each overrides `image`.")
    tag_policy: TagPolicy = Field(default=TagPolicy.DENY, description="Deny refuses images without a digest.")
    migrations: Migrations = Field(default_factory=Migrations, description="Limits of the migration Job.")


class Autoscaling(ApiModel):
    """Horizontal scaling of app by CPU."""

    model_config = ConfigDict(
        json_schema_extra=rules(Rule("self.maxReplicas >= self.minReplicas", "maxReplicas must be at least minReplicas", "maxReplicas"))
    )

    min_replicas: int = Field(default=2, ge=1, le=50, description="Fewest replicas.")
    max_replicas: int = Field(ge=1, le=50, description="Most replicas.")
    target_cpu_percent: int = Field(
        default=70, ge=1, le=100, alias="targetCPUPercent", description="Average CPU use to keep, in percent of the request."
    )


class App(ApiModel):
    """API and Admin UI."""

    replicas: int = Field(default=2, ge=1, le=50, description="Pods of app; ignored with autoscaling.")
    autoscaling: Autoscaling | None = Field(default=None, description="Scale by CPU instead of a fixed number.")
    public_url: str | None = Field(
        default=None,
        alias="publicURL",
        pattern=r"^https?://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(:[0-9]{1,5})?$",
        max_length=253,
        description="Address that browsers use, as https://bot.example.com: with https the session cookie is only sent over TLS; "
        "needed when the ingress asks with another host name.",
    )
    trusted_proxies: list[Network] = Field(
        default_factory=list,
        max_length=16,
        description="Networks of the ingress, as 10.244.0.0/16 or 10.1.2.3/32, whose X-Forwarded-For is believed. "
        "Without them all people behind it count as one address, so that the failed logins of one hold up all.",
    )
    log_level: LogLevel = Field(default=LogLevel.INFO, description="Verbosity of the logs.")
    resources: Resources | None = Field(
        default=None, description="Compute resources. Defaults: requests 100m CPU and 192Mi memory, memory limit 512Mi."
    )
    scheduling: Scheduling | None = Field(default=None, description="Where the pods may run.")
    termination_grace_period_seconds: int = Field(default=45, ge=15, le=600, description="Seconds to finish requests when a pod stops.")


class Scheduler(ApiModel):
    """Periodic work, bot brain and Cloud API sender."""

    log_level: LogLevel = Field(default=LogLevel.INFO, description="Verbosity of the logs.")
    resources: Resources | None = Field(
        default=None, description="Compute resources. Defaults: requests 50m CPU and 128Mi memory, memory limit 384Mi."
    )
    scheduling: Scheduling | None = Field(default=None, description="Where the pod may run.")
    termination_grace_period_seconds: int = Field(default=45, ge=15, le=600, description="Seconds to finish the send in flight.")


AMBIGUOUS_NUMBER = "(^|-)(postgres|redis|redis-data|pgdata-g[0-9]+|web-.*)$"
"""Names of numbers with which `<instance>-web-<number>` could be an object of another instance, `<instance>-web` for one."""


class WebNumber(ApiModel):
    """One WhatsApp Web number: one pod, one browser profile, one volume."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            *grows("sessionStorage"),
            Rule(
                f"!self.name.matches('{AMBIGUOUS_NUMBER}')",
                "name must not end like that of a data store (postgres, redis, redis-data, pgdata-g1), nor have a part web before others",
                "name",
            ),
        )
    )

    name: Annotated[DnsLabel, Field(max_length=12, description="Short name of the number.")]
    session_storage: Quantity = Field(default="2Gi", description="Size of the volume with the browser profile.")


class WorkerWeb(ApiModel):
    """WhatsApp Web automation; runs only for declared numbers."""

    model_config = ConfigDict(json_schema_extra=rules(immutable("storageClassName")))

    numbers: list[WebNumber] = Field(
        default_factory=list, max_length=20, description="WhatsApp Web numbers.", json_schema_extra=list_map("name")
    )
    storage_class_name: SecretName | None = Field(
        default=None, description="StorageClass of the profiles; absent is the cluster's default. Immutable."
    )
    log_level: LogLevel = Field(default=LogLevel.INFO, description="Verbosity of the logs.")
    resources: Resources | None = Field(
        default=None, description="Compute resources. Defaults: requests 200m CPU and 512Mi memory, memory limit 1536Mi."
    )
    scheduling: Scheduling | None = Field(default=None, description="Where the pods may run.")
    termination_grace_period_seconds: int = Field(default=90, ge=30, le=600, description="Seconds to close the browser cleanly.")


class CloudChannel(ApiModel):
    """A WhatsApp Cloud API number."""

    phone_number_id: str = Field(pattern=r"^[0-9]{1,32}$", description="Phone number id given by the provider.")
    secret_ref: SecretRef = Field(description="Secret with the keys access-token, app-secret and verify-token.")
    api_base_url: str = Field(
        default="https://graph.facebook.com",
        alias="apiBaseURL",
        pattern=r"^https?://[a-zA-Z0-9.-]+(:[0-9]{1,5})?$",
        max_length=253,
        description="Provider address without a path.",
    )
    api_version: str = Field(default="v23.0", pattern=r"^v[0-9]{1,3}\.[0-9]{1,2}$", description="Version of the provider's API.")


class Channels(ApiModel):
    """Ways to reach people besides WhatsApp Web."""

    cloud: CloudChannel | None = Field(default=None, description="WhatsApp Cloud API.")


class Storage(ApiModel):
    """A volume; its size can only grow."""

    model_config = ConfigDict(json_schema_extra=rules(*grows("size"), immutable("storageClassName")))

    size: Quantity = Field(default="20Gi", description="Requested size; can only grow.")
    storage_class_name: SecretName | None = Field(default=None, description="StorageClass; absent is the cluster's default. Immutable.")


class ExternalDatabase(ApiModel):
    """A PostgreSQL that somebody else runs. The Secret holds connection URLs."""

    url_ref: SecretKeyRef = Field(description="Key with the URL of the runtime's role: postgresql://user:password@host:5432/name.")
    migration_url_ref: SecretKeyRef | None = Field(
        default=None, description="Key with the URL of the role that owns the schema; absent uses urlRef."
    )


class Database(ApiModel):
    """PostgreSQL. Managed is one primary without automatic failover."""

    model_config = ConfigDict(json_schema_extra=rules(immutable("mode", required=True), *external_only()))

    mode: Mode = Field(default=Mode.MANAGED, description="Managed or External. Immutable.")
    storage: Storage = Field(default_factory=Storage, description="Volume of a managed database.")
    external: ExternalDatabase | None = Field(default=None, description="Required with mode External, refused otherwise.")
    resources: Resources | None = Field(
        default=None, description="Compute resources of a managed database. Defaults: requests 100m CPU and 256Mi memory, memory limit 1Gi."
    )
    scheduling: Scheduling | None = Field(default=None, description="Where a managed database may run.")


class CacheStorage(Storage):
    """The volume of a Persistent cache; its size can only grow."""

    size: Quantity = Field(default="1Gi", description="Requested size; can only grow.")


class ExternalCache(ApiModel):
    """A Redis that somebody else runs."""

    url_ref: SecretKeyRef = Field(description="Key with the URL: redis://:password@host:6379/0 or rediss://.")


_MAX_MEMORY_RULES = (
    # Redis takes 0 for no limit at all, and with hardly any memory it evicts what was just written.
    Rule("quantity(self.maxMemory).compareTo(quantity('16Mi')) >= 0", "maxMemory must be at least 16Mi", "maxMemory"),
    # The default limit of the container is larger, and must be an amount that the API server can store too.
    Rule("quantity(self.maxMemory).compareTo(quantity('4Ei')) <= 0", "maxMemory must be at most 4Ei", "maxMemory"),
    Rule("!self.maxMemory.endsWith('m')", "maxMemory must be in bytes, not in thousandths (suffix m)", "maxMemory"),
)


class Cache(ApiModel):
    """Redis: wakes, paces and caches; may vanish without loss of a message."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            immutable("mode", required=True), immutable("durability", required=True), *external_only(), *_MAX_MEMORY_RULES
        )
    )

    mode: Mode = Field(default=Mode.MANAGED, description="Managed or External. Immutable.")
    durability: Durability = Field(default=Durability.EPHEMERAL, description="Persistent keeps an append-only file on a volume. Immutable.")
    max_memory: Quantity = Field(default="128Mi", description="Memory for data, at least 16Mi; least recently used keys go first.")
    storage: CacheStorage = Field(default_factory=CacheStorage, description="Volume of a Persistent managed cache.")
    external: ExternalCache | None = Field(default=None, description="Required with mode External, refused otherwise.")
    resources: Resources | None = Field(
        default=None,
        description="Compute resources of a managed cache. Defaults: requests 20m CPU and maxMemory + 32Mi memory, "
        "memory limit 1.5 x maxMemory + 64Mi.",
    )
    scheduling: Scheduling | None = Field(default=None, description="Where a managed cache may run.")


class Secrets(ApiModel):
    """Secrets brought by the team; an absent one is generated once and kept."""

    jwt: SecretKeyRef | None = Field(default=None, description="Signing key of tokens, at least 32 characters.")
    admin_password: SecretKeyRef | None = Field(default=None, description="Password of the first administrator, at least 12 characters.")


class Security(ApiModel):
    """Isolation of the instance."""

    network_policy: Switch = Field(default=Switch.ENABLED, description="Default deny plus what the components need.")


class BackupVolume(Storage):
    """The claim <instance>-backups, which the operator makes and never deletes."""


class BackupTarget(ApiModel):
    """Where backups go."""

    persistent_volume_claim: BackupVolume = Field(
        default_factory=BackupVolume, description="A volume in the same namespace: it survives the database, not the cluster."
    )


class Backup(ApiModel):
    """Where ChatbotBackups of this instance go. Each is encrypted for a key that is generated once, in the Secret <instance>-backup-key."""

    target: BackupTarget = Field(default_factory=BackupTarget, description="Where backups go.")
    resources: Resources | None = Field(
        default=None,
        description="Compute resources of the Jobs that make and prove backups. Defaults: requests 100m CPU and 128Mi memory, "
        "memory limit 512Mi.",
    )


class ChatbotInstanceSpec(ApiModel):
    """Desired state of one chatbot. Only `release` is required."""

    lifecycle: Lifecycle = Field(
        default=Lifecycle.RUNNING, description="Running; Paused observes and changes nothing; Hibernated stops all pods and keeps all data."
    )
    deletion_policy: DeletionPolicy = Field(
        default=DeletionPolicy.RETAIN, description="Retain keeps volumes and generated Secrets; Delete removes them."
    )
    release: Release = Field(description="Which software runs.")
    app: App = Field(default_factory=App, description="API and Admin UI.")
    scheduler: Scheduler = Field(default_factory=Scheduler, description="Periodic work, bot brain and Cloud API sender.")
    worker_web: WorkerWeb = Field(default_factory=WorkerWeb, description="WhatsApp Web automation.")
    channels: Channels = Field(default_factory=Channels, description="Ways to reach people besides WhatsApp Web.")
    database: Database = Field(default_factory=Database, description="PostgreSQL.")
    cache: Cache = Field(default_factory=Cache, description="Redis.")
    secrets: Secrets = Field(default_factory=Secrets, description="Secrets brought by the team.")
    security: Security = Field(default_factory=Security, description="Isolation.")
    backup: Backup | None = Field(
        default=None, description="Where ChatbotBackups go; without it none can be made. Taking it away keeps volume and key."
    )
    image_pull_secrets: list[SecretRef] = Field(
        default_factory=list, max_length=8, description="Secrets for pulling images.", json_schema_extra=list_map("name")
    )
