"""What every pod of the chatbot's own image shares: environment and probes by docs/runtime-contract.md."""

from typing import Final

from chatbot_operator.api.v1alpha1.instance import LogLevel, Mode
from chatbot_operator.constants import APP_PORT, METRICS_PORT, POSTGRES_PORT, REDIS_PORT
from chatbot_operator.desired import names
from chatbot_operator.desired.inputs import Inputs
from chatbot_operator.desired.metadata import Object
from chatbot_operator.desired.pods import http_probe

DRAIN_MARGIN_SECONDS: Final = 5
"""Between the end of the drain and SIGKILL: time to close connections and exit."""


def environment(inputs: Inputs, version: str, log_level: LogLevel, *, role: str) -> dict[str, str]:
    """Return the variables that say who the process is and where its stores are; secrets come as files.

    Args:
        inputs: Whose pod.
        version: Release it runs.
        log_level: Verbosity.
        role: `chatbot_owner` for the migration, else `chatbot_app`.
    """
    env = {
        "INSTANCE_NAME": inputs.name,
        "RELEASE_VERSION": version,
        "LOG_LEVEL": log_level.value.lower(),
        "PORT": str(APP_PORT),
        "METRICS_PORT": str(METRICS_PORT),
    }
    if inputs.spec.database.mode is Mode.MANAGED:
        env |= {
            "DATABASE_HOST": names.component_name(inputs.name, names.POSTGRES),
            "DATABASE_PORT": str(POSTGRES_PORT),
            "DATABASE_NAME": "chatbot",
            "DATABASE_USER": role,
        }
    if inputs.spec.cache.mode is Mode.MANAGED and role == "chatbot_app":
        env |= {"REDIS_HOST": names.component_name(inputs.name, names.REDIS), "REDIS_PORT": str(REDIS_PORT)}
    return env


def cloud_environment(inputs: Inputs) -> dict[str, str]:
    """Return the variables of the Cloud API number, or none."""
    cloud = inputs.spec.channels.cloud
    if cloud is None:
        return {}
    return {"WA_PHONE_NUMBER_ID": cloud.phone_number_id, "WA_API_BASE": cloud.api_base_url, "WA_API_VERSION": cloud.api_version}


def drain(grace_seconds: int, pre_stop_seconds: int = 0) -> dict[str, str]:
    """Return how long a process may finish its work, so that it ends before it is killed."""
    return {"DRAIN_TIMEOUT_S": str(max(1, grace_seconds - pre_stop_seconds - DRAIN_MARGIN_SECONDS))}


def probes(port: str) -> dict[str, Object]:
    """Return the probes of a long-running command. Liveness depends on nothing but the process, or an outage restarts everything."""
    return {
        "startupProbe": http_probe("/livez", port, period=2, timeout=3, failures=60),
        "livenessProbe": http_probe("/livez", port, period=10, timeout=5, failures=6),
        "readinessProbe": http_probe("/readyz", port, period=5, timeout=3, failures=2),
    }
