"""Settings of the operator process: read once from the environment, typed, frozen; a bad one ends the process with one sentence."""

import os
import socket
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Final, TypeVar

from chatbot_operator.errors import ConfigError

T = TypeVar("T")

LOG_LEVELS: Final = ("debug", "info", "warning", "error")
DEFAULT_LEASE_NAME: Final = "chatbot-operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that the environment decides about one operator process. Each field says unit, default and why."""

    postgres_image: str
    """`CHATBOT_POSTGRES_IMAGE`, required: image of managed databases. No default, so that nothing is pulled that nobody chose."""

    redis_image: str
    """`CHATBOT_REDIS_IMAGE`, required: image of managed caches."""

    version: str
    """`CHATBOT_OPERATOR_VERSION`, default the installed package's version: what `status.operatorVersion` records. The image sets it."""

    namespaces: tuple[str, ...] = ()
    """`CHATBOT_NAMESPACES`, comma list, default empty: watch all. A list needs no cluster-wide right on children."""

    identity: str
    """`POD_UID`, default random: holder of the Lease. A uid is never reused, while a pod's name may be."""

    pod_name: str
    """`POD_NAME`, default the host's name: reporting instance of Events and a field of every log line."""

    lease_namespace: str
    """`CHATBOT_LEASE_NAMESPACE`, else `POD_NAMESPACE`, else `default`: where the Lease lives, beside the operator."""

    lease_name: str
    """`CHATBOT_LEASE_NAME`, default `chatbot-operator`: two operators that share it never act at once."""

    lease_seconds: int = 12
    """`CHATBOT_LEASE_SECONDS`, seconds, 1 to 120: a dead leader is replaced after this long; renewed every third of it."""

    probe_port: int = 8080
    """`CHATBOT_PROBE_PORT`, 0 takes a free one: `/livez` and `/readyz`."""

    metrics_port: int = 9100
    """`CHATBOT_METRICS_PORT`, 0 takes a free one: `/metrics`, apart from probes so that a NetworkPolicy can tell them apart."""

    log_level: str = "info"
    """`CHATBOT_LOG_LEVEL`: `debug`, `info`, `warning` or `error`."""

    max_concurrent_passes: int = 16
    """`CHATBOT_MAX_CONCURRENT_PASSES`, 1 to 256: a pass mostly waits for the API server; more only moves the queue there."""

    resync_seconds: float = 600.0
    """`CHATBOT_RESYNC_SECONDS`, seconds, at least 10: each instance gets one pass per period even if every wake-up was lost."""

    max_concurrent_restarts: int = 1
    """`CHATBOT_MAX_CONCURRENT_RESTARTS`, 1 to 1000: instances that take a new operator's pod templates at the same time."""

    shutdown_seconds: float = 20.0
    """`CHATBOT_SHUTDOWN_SECONDS`, seconds, 1 to 300: how long running passes may take to end after SIGTERM."""

    watch_silence_seconds: float = 300.0
    """`CHATBOT_WATCH_SILENCE_SECONDS`, seconds, at least 30: `/livez` fails when the API answers but watches were silent this long."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> "Config":
        """Read the settings.

        Args:
            env: The environment; the process's own by default.

        Raises:
            ConfigError: A setting is missing or unusable; the message names it.
        """
        read = _Reader(os.environ if env is None else env)
        return cls(
            postgres_image=read.required("CHATBOT_POSTGRES_IMAGE", "an image reference"),
            redis_image=read.required("CHATBOT_REDIS_IMAGE", "an image reference"),
            version=read.text("CHATBOT_OPERATOR_VERSION") or _package_version(),
            namespaces=tuple(part.strip() for part in read.text("CHATBOT_NAMESPACES").split(",") if part.strip()),
            identity=read.text("POD_UID") or str(uuid.uuid4()),
            pod_name=read.text("POD_NAME") or socket.gethostname(),
            lease_namespace=read.text("CHATBOT_LEASE_NAMESPACE") or read.text("POD_NAMESPACE") or "default",
            lease_name=read.text("CHATBOT_LEASE_NAME") or DEFAULT_LEASE_NAME,
            lease_seconds=read.number("CHATBOT_LEASE_SECONDS", int, 12, 1, 120),
            probe_port=read.number("CHATBOT_PROBE_PORT", int, 8080, 0, 65535),
            metrics_port=read.number("CHATBOT_METRICS_PORT", int, 9100, 0, 65535),
            log_level=read.choice("CHATBOT_LOG_LEVEL", LOG_LEVELS, "info"),
            max_concurrent_passes=read.number("CHATBOT_MAX_CONCURRENT_PASSES", int, 16, 1, 256),
            resync_seconds=read.number("CHATBOT_RESYNC_SECONDS", float, 600.0, 10, 86400),
            max_concurrent_restarts=read.number("CHATBOT_MAX_CONCURRENT_RESTARTS", int, 1, 1, 1000),
            shutdown_seconds=read.number("CHATBOT_SHUTDOWN_SECONDS", float, 20.0, 1, 300),
            watch_silence_seconds=read.number("CHATBOT_WATCH_SILENCE_SECONDS", float, 300.0, 30, 86400),
        )


class _Reader:
    """Typed access to an environment that names the variable in every complaint."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env

    def text(self, name: str) -> str:
        return self._env.get(name, "").strip()

    def required(self, name: str, what: str) -> str:
        value = self.text(name)
        if not value:
            raise ConfigError(f"{name} is not set; it needs {what}.")
        return value

    def number(self, name: str, kind: Callable[[str], T], default: T, low: float, high: float) -> T:
        text = self.text(name)
        if not text:
            return default
        try:
            value = kind(text)
        except ValueError:
            raise ConfigError(f"{name} is {text!r}; it needs a number from {low} to {high}.") from None
        if not low <= float(text) <= high:
            raise ConfigError(f"{name} is {text}; it must lie between {low} and {high}.")
        return value

    def choice(self, name: str, allowed: tuple[str, ...], default: str) -> str:
        value = self.text(name).lower() or default
        if value not in allowed:
            raise ConfigError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}.")
        return value


def _package_version() -> str:
    """Return the version of the installed distribution; a source tree without one is `0.0.0+source`."""
    try:
        return metadata.version("chatbot-operator")
    except metadata.PackageNotFoundError:
        return "0.0.0+source"
