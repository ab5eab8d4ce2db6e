"""Which Secrets an instance generates, which it refers to, and what each component reads of them. Never a value."""

from collections.abc import Mapping
from typing import Final

from chatbot_operator.api.v1alpha1.instance import ChatbotInstanceSpec, Mode
from chatbot_operator.desired import names
from chatbot_operator.model.plan import GeneratedSecret, Use

POSTGRES_KEYS: Final = ("postgres-password", "owner-password", "app-password")
BACKUP_IDENTITY: Final = "identity"
BACKUP_RECIPIENT: Final = "recipient"
CLOUD_KEYS: Final = ("access-token", "app-secret", "verify-token")
REDIS_KEY: Final = "redis-password"
JWT_KEY: Final = "jwt-secret"
ADMIN_KEY: Final = "admin-password"


def generated_secrets(name: str, spec: ChatbotInstanceSpec) -> tuple[GeneratedSecret, ...]:
    """Return the Secrets to generate once, for everything that the team does not bring itself."""
    found = []
    if spec.database.mode is Mode.MANAGED:
        found.append(GeneratedSecret(names.postgres_secret(name), names.POSTGRES, dict.fromkeys(POSTGRES_KEYS, "password")))
    if spec.cache.mode is Mode.MANAGED:
        found.append(GeneratedSecret(names.redis_secret(name), names.REDIS, {REDIS_KEY: "password"}))
    if spec.secrets.jwt is None:
        found.append(GeneratedSecret(names.jwt_secret(name), names.APP, {JWT_KEY: "key"}))
    if spec.secrets.admin_password is None:
        found.append(GeneratedSecret(names.admin_secret(name), names.APP, {"username": "literal:admin", ADMIN_KEY: "password"}))
    if spec.backup is not None:
        values = {BACKUP_IDENTITY: "age-identity", BACKUP_RECIPIENT: "age-recipient"}
        found.append(GeneratedSecret(names.backup_key_secret(name), names.BACKUP, values))
    return tuple(found)


def uses_of(component: str, name: str, spec: ChatbotInstanceSpec) -> tuple[Use, ...]:
    """Return what a component reads of Secrets, in a stable order."""
    match component:
        case names.POSTGRES | names.BOOTSTRAP:
            return tuple(Use(names.postgres_secret(name), key, key) for key in POSTGRES_KEYS)
        case names.REDIS:
            return (Use(names.redis_secret(name), REDIS_KEY, REDIS_KEY, "REDIS_PASSWORD_FILE"),)
        case names.MIGRATE:
            return (_database(name, spec, owner=True),)
        case names.BACKUP:
            key = names.backup_key_secret(name)
            return (_database(name, spec, owner=True), Use(key, BACKUP_RECIPIENT, "recipient", "BACKUP_RECIPIENT_FILE"))
        case names.BACKUP_VERIFY:
            return (Use(names.backup_key_secret(name), BACKUP_IDENTITY, "identity", "BACKUP_IDENTITY_FILE"),)
        case names.APP:
            return (_database(name, spec), _cache(name, spec), *_app(name, spec), *_cloud(spec, "app-secret", "verify-token"))
        case names.SCHEDULER:
            return (_database(name, spec), _cache(name, spec), *_cloud(spec, "access-token"))
        case _:
            return (_database(name, spec), _cache(name, spec))


def references(name: str, spec: ChatbotInstanceSpec) -> Mapping[str, tuple[str, ...]]:
    """Return the Secrets that the team brings: name -> keys that must exist. A pull secret needs no known key."""
    own = own_secret_names(name, spec)
    found: dict[str, set[str]] = {ref.name: set() for ref in spec.image_pull_secrets}
    for component in (names.MIGRATE, names.APP, names.SCHEDULER):
        for use in uses_of(component, name, spec):
            if use.secret not in own:
                found.setdefault(use.secret, set()).add(use.key)
    return {secret: tuple(sorted(keys)) for secret, keys in sorted(found.items())}


def own_secret_names(name: str, spec: ChatbotInstanceSpec) -> frozenset[str]:
    """Return the names of the Secrets that we generate."""
    return frozenset(secret.name for secret in generated_secrets(name, spec))


def secret_names(name: str, spec: ChatbotInstanceSpec) -> tuple[str, ...]:
    """Return the names of all Secrets, generated and referenced, whose facts a pass needs."""
    return (*(secret.name for secret in generated_secrets(name, spec)), *references(name, spec))


def _database(name: str, spec: ChatbotInstanceSpec, *, owner: bool = False) -> Use:
    external = spec.database.external
    if spec.database.mode is Mode.EXTERNAL and external is not None:
        ref = external.migration_url_ref if owner and external.migration_url_ref else external.url_ref
        return Use(ref.name, ref.key, "database-url", "DATABASE_URL_FILE")
    key = "owner-password" if owner else "app-password"
    return Use(names.postgres_secret(name), key, "database-password", "DATABASE_PASSWORD_FILE")


def _cache(name: str, spec: ChatbotInstanceSpec) -> Use:
    external = spec.cache.external
    if spec.cache.mode is Mode.EXTERNAL and external is not None:
        return Use(external.url_ref.name, external.url_ref.key, "redis-url", "REDIS_URL_FILE")
    return Use(names.redis_secret(name), REDIS_KEY, REDIS_KEY, "REDIS_PASSWORD_FILE")


def _app(name: str, spec: ChatbotInstanceSpec) -> tuple[Use, Use]:
    jwt, admin = spec.secrets.jwt, spec.secrets.admin_password
    return (
        Use(jwt.name if jwt else names.jwt_secret(name), jwt.key if jwt else JWT_KEY, JWT_KEY, "JWT_SECRET_FILE"),
        Use(admin.name if admin else names.admin_secret(name), admin.key if admin else ADMIN_KEY, ADMIN_KEY, "ADMIN_PASSWORD_FILE"),
    )


def _cloud(spec: ChatbotInstanceSpec, *keys: str) -> tuple[Use, ...]:
    cloud = spec.channels.cloud
    if cloud is None:
        return ()
    return tuple(Use(cloud.secret_ref.name, key, f"wa-{key}", f"WA_{key.upper().replace('-', '_')}_FILE") for key in keys)
