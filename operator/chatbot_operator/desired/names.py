"""Names of everything that an instance consists of. All are pure functions of the instance's name (at most 30 characters).

StatefulSets must stay under 53 characters: Kubernetes puts `<name>-<10 characters>` into a label of their pods.
"""

from typing import Final

POSTGRES: Final = "postgres"
REDIS: Final = "redis"
BOOTSTRAP: Final = "postgres-bootstrap"
POSTGRES_VOLUME: Final = "postgres-volume"
MIGRATE: Final = "migrate"
APP: Final = "app"
SCHEDULER: Final = "scheduler"
WORKER_WEB: Final = "worker-web"
BACKUP: Final = "backup"
BACKUP_VERIFY: Final = "backup-verify"
"""Components: values of the label `chatbotops.io/component`, and names of stages and of rows of the status."""


def component_name(instance: str, component: str) -> str:
    """Return the name of a component's workload, Service and ServiceAccount."""
    return f"{instance}-{component}"


def claim_name(instance: str, generation: int) -> str:
    """Return the name of the PostgreSQL claim; a swap of volumes is a new generation."""
    return f"{instance}-pgdata-g{generation}"


def redis_claim_name(instance: str) -> str:
    """Return the name of the claim of a Persistent cache."""
    return f"{instance}-redis-data"


def web_name(instance: str, number: str) -> str:
    """Return the name of the StatefulSet and of the claim of one WhatsApp Web number."""
    return f"{instance}-web-{number}"


def web_component(number: str) -> str:
    """Return the stage and status row of one WhatsApp Web number."""
    return f"{WORKER_WEB}-{number}"


def job_name(instance: str, component: str, key: str, attempt: int) -> str:
    """Return the name of one attempt of a Job."""
    return f"{instance}-{component}-{key}-{attempt}"


def postgres_secret(instance: str) -> str:
    """Return the name of the generated Secret with the database's passwords."""
    return f"{instance}-postgres"


def redis_secret(instance: str) -> str:
    """Return the name of the generated Secret with the cache's password."""
    return f"{instance}-redis"


def jwt_secret(instance: str) -> str:
    """Return the name of the generated Secret with the signing key of tokens."""
    return f"{instance}-jwt"


def backup_claim(instance: str) -> str:
    """Return the name of the claim that backups go to."""
    return f"{instance}-backups"


def backup_key_secret(instance: str) -> str:
    """Return the name of the generated Secret with the key of backups."""
    return f"{instance}-backup-key"


def admin_secret(instance: str) -> str:
    """Return the name of the generated Secret with the first administrator's password."""
    return f"{instance}-admin"
