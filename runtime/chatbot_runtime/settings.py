"""Every environment variable of the runtime (docs/runtime-contract.md), typed, documented and checked once at start.

A field's environment variable is its name in capitals. Each `SecretStr` may also be given as a path in `NAME_FILE`, which is how the
operator does it. Nothing here ever prints a value: a refusal names the variable and the rule it broke.
"""

import os
from collections.abc import Mapping
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import quote, urlencode, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from redis.asyncio.connection import parse_url
from sqlalchemy.engine.url import make_url
from sqlalchemy.exc import ArgumentError

from chatbot_runtime.errors import ConfigError
from chatbot_runtime.secretrules import check_secret

Port = Annotated[int, Field(ge=1, le=65535)]
LogLevel = Literal["debug", "info", "warning", "error"]


class Role(StrEnum):
    """What a process of the image does; also the command that starts it."""

    APP = "app"
    SCHEDULER = "scheduler"
    WORKER_WEB = "worker-web"
    MIGRATE = "migrate"


class Settings(BaseSettings):
    """The settings of one process. Only the database is always required; `load_settings` checks what a role needs besides."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, env_ignore_empty=True)

    # -- identity and process
    instance_name: str = Field("chatbot", description="Name of the ChatbotInstance, for logs and metrics.")
    release_version: str = Field("dev", description="`release.version` of the ChatbotInstance.")
    log_level: LogLevel = Field("info", description="Least severe level that is logged.")
    port: Port = Field(8003, description="Port of the HTTP API (app).")
    metrics_port: Port = Field(9103, description="Port of /livez, /readyz and /metrics of every long-running command.")
    bind_host: str = Field("0.0.0.0", description="Address that both ports bind to.")  # noqa: S104  a pod serves its own network
    public_url: str = Field("", description="Address that browsers use, such as https://bot.example.com; https makes the cookie Secure.")
    trusted_proxies: str = Field("127.0.0.1", description="Addresses or networks, comma separated, whose X-Forwarded-For is believed.")
    drain_timeout_s: Annotated[int, Field(ge=0, le=3600)] = Field(25, description="Seconds to finish work after SIGTERM.")

    # -- database
    database_url: SecretStr = Field(
        SecretStr(""),
        description="PostgreSQL URL; built from the five DATABASE_* pieces when absent. Always postgresql+asyncpg:// once loaded.",
    )
    database_host: str | None = Field(None, description="Host name, or a directory with a unix socket.")
    database_port: Port = Field(5432, description="TCP port.")
    database_name: str = Field("chatbot", description="Database.")
    database_user: str = Field("chatbot_app", description="Role: chatbot_app, or chatbot_owner for migrate.")
    database_password: SecretStr | None = Field(None, description="Password of DATABASE_USER.")
    database_app_role: str | None = Field(None, description="Role that migrate grants the runtime's rights to.")
    db_pool_size: Annotated[int, Field(ge=1, le=100)] = Field(10, description="Connections that one process may hold.")
    db_statement_timeout_ms: Annotated[int, Field(ge=100, le=600_000)] = Field(
        10_000, description="Longest statement of a long-running command."
    )
    db_connect_timeout_s: Annotated[float, Field(gt=0, le=60)] = Field(3.0, description="Longest wait for a new connection.")

    # -- cache
    redis_url: SecretStr | None = Field(None, description="Redis URL; built from REDIS_HOST, _PORT and _PASSWORD when absent.")
    redis_host: str | None = Field(None, description="Host name.")
    redis_port: Port = Field(6379, description="TCP port.")
    redis_password: SecretStr | None = Field(None, description="Password of the default user.")

    # -- app
    jwt_secret: SecretStr | None = Field(None, description="Key that signs short-lived tokens (CSRF, ws-token); at least 32 characters.")
    admin_username: str = Field("admin", description="First administrator.")
    admin_password: SecretStr | None = Field(None, description="Password of the first administrator; at least 12 characters.")
    session_idle_min: Annotated[int, Field(ge=1, le=525_600)] = Field(
        30, description="Minutes without a request after which a session ends."
    )
    session_max_h: Annotated[int, Field(ge=1, le=8760)] = Field(12, description="Hours after which a session ends in any case.")

    # -- WhatsApp Cloud API
    wa_phone_number_id: str | None = Field(None, description="Cloud API phone number id; absent when no cloud channel is declared.")
    wa_api_base: str = Field("https://graph.facebook.com", description="Base URL of the Cloud API.")
    wa_api_version: str = Field("v23.0", description="Version segment of Cloud API paths.")
    wa_access_token: SecretStr | None = Field(None, description="Cloud API token (scheduler).")
    wa_app_secret: SecretStr | None = Field(None, description="Key of webhook signatures (app).")
    wa_verify_token: SecretStr | None = Field(None, description="Token of the webhook subscription (app).")
    cloud_rate: Annotated[int, Field(ge=1, le=1000)] = Field(70, description="Cloud sends a second and number.")
    cloud_pair_interval_s: Annotated[float, Field(ge=0, le=3600)] = Field(
        6.0, description="Seconds between sends to one recipient once its burst is used."
    )

    # -- WhatsApp Web
    web_number: str | None = Field(None, description="Name of the number this worker-web serves.")
    web_profile_dir: Path = Field(Path("/var/lib/chatbot/profile"), description="Browser profile directory on a volume.")

    # -- queue
    queue_soft_max: Annotated[int, Field(ge=1)] = Field(10_000, description="Waiting messages above which mass sendings are refused.")
    queue_hard_max: Annotated[int, Field(ge=1)] = Field(50_000, description="Waiting messages above which only people's are taken.")
    outbox_max_attempts: Annotated[int, Field(ge=1, le=50)] = Field(8, description="Tries before a message is dead.")
    outbox_ttl_min: Annotated[int, Field(ge=1, le=525_600)] = Field(1440, description="Minutes after which an unsent message expires.")
    unknown_policy: Literal["hold", "resend"] = Field("hold", description="What becomes of a send whose outcome stays unknown.")
    unknown_wait_s: Annotated[int, Field(ge=1, le=604_800)] = Field(
        120, description="Seconds to wait for a status of a send with unknown outcome."
    )
    lease_ttl_s: Annotated[int, Field(ge=3, le=3600)] = Field(60, description="Seconds a lane or worker lease lasts without a heart-beat.")

    # -- bot
    bot_locale: Literal["es", "en"] = Field("es", description="Language until the contact's is recognised.")
    bot_quiet_s: Annotated[float, Field(ge=0, le=10)] = Field(
        0.3, description="Seconds after a first message in which more of the same chat are answered together with it."
    )

    human_idle_h: Annotated[int, Field(ge=0, le=8760)] = Field(
        12, description="Hours of a person's silence after which the contact's next message gives the chat back to the bot; 0 is never."
    )

    # -- migrate
    lock_timeout_s: Annotated[int, Field(ge=1)] = Field(10, description="Longest wait for one lock of a migration.")
    migrate_timeout_s: Annotated[int, Field(ge=1)] = Field(900, description="Longest migration.")
    termination_log: Path = Field(Path("/dev/termination-log"), description="File that receives the Job result.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments, then `NAME_FILE`, then `NAME`; no .env file and no implicit directory."""
        return init_settings, SecretFileSource(settings_cls), env_settings

    @field_validator(
        "jwt_secret", "admin_password", "database_password", "redis_password", "wa_app_secret", "wa_verify_token", "wa_access_token"
    )
    @classmethod
    def _refuse_weak(cls, value: SecretStr | None, info: Any) -> SecretStr | None:
        if value is not None:
            check_secret(info.field_name, value.get_secret_value())
        return value

    @field_validator("public_url")
    @classmethod
    def _origin_only(cls, value: str) -> str:
        if value and (urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).netloc):
            raise ValueError("must look like https://bot.example.com")
        return value.rstrip("/")

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: str) -> str:
        """Return what the server understands: it trusts nobody, and says nothing, where a network has bits of a host."""
        try:
            return ",".join(str(ip_network(part.strip(), strict=False)) for part in value.split(","))
        except ValueError:
            raise ValueError("must be addresses or networks, comma separated, such as 10.1.2.3,10.244.0.0/16") from None

    @model_validator(mode="before")
    @classmethod
    def _assemble_urls(cls, data: dict[str, Any]) -> dict[str, Any]:
        if not _text(data.get("database_url")) and data.get("database_host"):
            data["database_url"] = _database_url_of(data)
        if not _text(data.get("redis_url")) and data.get("redis_host"):
            password = _text(data.get("redis_password"))
            auth = f":{quote(password, safe='')}@" if password else ""
            data["redis_url"] = f"redis://{auth}{data['redis_host']}:{data.get('redis_port', 6379)}/0"
        return data

    @field_validator("database_url")
    @classmethod
    def _async_url(cls, value: SecretStr) -> SecretStr:
        return SecretStr(_normalise_database_url(value.get_secret_value()))

    @field_validator("redis_url")
    @classmethod
    def _usable_redis_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value:
            _password_of(value.get_secret_value())
        return value

    @property
    def cookie_secure(self) -> bool:
        """Whether browsers reach us over TLS, so that the session cookie may demand it."""
        return self.public_url.startswith("https://")

    def secret_values(self) -> tuple[str, ...]:
        """Return every secret that was loaded, for redaction by value; URLs contribute their password, plain and as it stands in them."""
        found = []
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, SecretStr) and value.get_secret_value():
                text = value.get_secret_value()
                found.append(text)
                if name in ("database_url", "redis_url") and (password := _password_of(text)):
                    found += [password, quote(password, safe="")]
        return tuple(dict.fromkeys(found))


class SecretFileSource(PydanticBaseSettingsSource):
    """Reads `NAME_FILE` for each secret field; a variable given both ways is refused, as nobody can tell which one counts."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the content of the field's file without its line end, or None."""
        path = os.environ.get(f"{field_name.upper()}_FILE")
        if not path or not _is_secret(field):
            return None, field_name, False
        if os.environ.get(field_name.upper()):
            raise ConfigError(f"{field_name.upper()} and {field_name.upper()}_FILE are both set; keep one")
        try:
            text = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{field_name.upper()}_FILE can't be read: {type(error).__name__}") from None
        if not text:
            raise ConfigError(f"{field_name.upper()}_FILE is empty")
        return text, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return what the files say, by field name."""
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value is not None}


REQUIRED: Mapping[Role, tuple[str, ...]] = {
    Role.APP: ("jwt_secret", "admin_password"),
    Role.SCHEDULER: (),
    Role.WORKER_WEB: ("web_number",),
    Role.MIGRATE: (),
}
REQUIRED_WITH_CLOUD: Mapping[Role, tuple[str, ...]] = {
    Role.APP: ("wa_app_secret", "wa_verify_token"),
    Role.SCHEDULER: ("wa_access_token",),
    Role.WORKER_WEB: (),
    Role.MIGRATE: (),
}


def load_settings(role: Role, **overrides: Any) -> Settings:
    """Read the environment for a role.

    Args:
        role: what the process will do; decides which settings are required.
        overrides: fields that win over the environment (tests).

    Raises:
        ConfigError: with one sentence a problem, none showing a value.
    """
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        raise ConfigError(*(_sentence(item) for item in error.errors(include_input=False, include_url=False))) from None
    wanted = REQUIRED[role] + (REQUIRED_WITH_CLOUD[role] if settings.wa_phone_number_id else ())
    missing = [name for name in wanted if not getattr(settings, name)]
    if missing:
        raise ConfigError(*(f"{name.upper()} is required for {role.value}" for name in missing))
    return settings


def _is_secret(field: FieldInfo) -> bool:
    return field.annotation is SecretStr or SecretStr in get_args(field.annotation)


def _text(value: Any) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value or "")


def _sentence(item: Any) -> str:
    """Turn one pydantic error into `NAME message`, leaving the input out."""
    where = str(item["loc"][0]).upper() if item["loc"] else "settings"
    return f"{where}: {item['msg'].removeprefix('Value error, ')}"


def _database_url_of(data: Mapping[str, Any]) -> str:
    """Build a URL from the five pieces; a host that is a path becomes the `host` parameter, as libpq has it."""
    user = quote(str(data.get("database_user", "chatbot_app")), safe="")
    password = _text(data.get("database_password"))
    auth = f"{user}:{quote(password, safe='')}" if password else user
    host, port, name = (
        str(data["database_host"]),
        data.get("database_port", 5432),
        quote(str(data.get("database_name", "chatbot")), safe=""),
    )
    if host.startswith("/"):
        return f"postgresql+asyncpg://{auth}@/{name}?{urlencode({'host': host, 'port': port})}"
    return f"postgresql+asyncpg://{auth}@{host}:{port}/{name}"


def _normalise_database_url(url: str) -> str:
    """Return the URL for SQLAlchemy's asyncpg dialect: its scheme, and libpq's `sslmode` as asyncpg's `ssl`.

    Raises:
        ValueError: no URL, another database, or a parameter that asyncpg does not have.
    """
    if not url:
        raise ValueError("is missing; set DATABASE_URL_FILE, or DATABASE_HOST with its companions")
    scheme, _, rest = url.partition("://")
    if scheme not in ("postgres", "postgresql", "postgresql+asyncpg") or not rest:
        raise ValueError("must start with postgresql://")
    base, _, query = rest.partition("?")
    kept = []
    for pair in filter(None, query.split("&")):
        key, _, value = pair.partition("=")
        key = {"sslmode": "ssl"}.get(key, key)
        if key not in ("ssl", "host", "port"):
            raise ValueError("has a parameter that is not supported (sslmode, host and port are), or its password an unencoded '?'")
        if key == "port" and not value.replace(",", "").isdecimal():
            raise ValueError("has a port that is not a number")
        kept.append(f"{key}={value}")
    normalised = f"postgresql+asyncpg://{base}" + (f"?{'&'.join(kept)}" if kept else "")
    if password := _password_of(normalised):
        check_secret("database_password", password)
    return normalised


def _password_of(url: str) -> str:
    """Return the password in a URL, decoded; empty without one. Parsed by the library that will use the URL.

    Raises:
        ValueError: the library does not understand the URL. Its own sentence is withheld: it quotes what it takes for the port or the host,
            which is a piece of the password when that has a character that should have been encoded.
    """
    try:
        if not url.startswith("postgresql"):
            return str(parse_url(url).get("password") or "")
        parsed = make_url(url)
        if "@" not in (parsed.host or ""):
            return parsed.password or ""
    except (ArgumentError, ValueError):
        pass  # answered below, outside of the exception that quotes it
    raise ValueError("is not a usable URL; encode what is special in its password (as %2F for /), and the port is a number")
