"""Settings: typed, with defaults, and refused with a sentence that names the variable."""

import pytest

from chatbot_operator.config import Config
from chatbot_operator.errors import ConfigError

IMAGES = {"CHATBOT_POSTGRES_IMAGE": "p:1", "CHATBOT_REDIS_IMAGE": "r:1"}


def test_the_smallest_environment_gives_the_documented_defaults() -> None:
    config = Config.from_env(IMAGES)
    assert (config.lease_name, config.lease_namespace, config.lease_seconds) == ("chatbot-operator", "default", 12)
    assert config.namespaces == ()
    assert (config.probe_port, config.metrics_port) == (8080, 9100)
    assert config.version


def test_everything_can_be_set() -> None:
    config = Config.from_env(
        {
            **IMAGES,
            "CHATBOT_NAMESPACES": " a, b ,",
            "CHATBOT_LEASE_NAMESPACE": "ops",
            "CHATBOT_LEASE_NAME": "mine",
            "CHATBOT_LEASE_SECONDS": "3",
            "CHATBOT_LOG_LEVEL": "DEBUG",
            "CHATBOT_OPERATOR_VERSION": "9",
            "CHATBOT_RESYNC_SECONDS": "12.5",
            "POD_UID": "u",
            "POD_NAME": "n",
        }
    )
    assert config.namespaces == ("a", "b")
    assert (config.lease_namespace, config.lease_name, config.lease_seconds) == ("ops", "mine", 3)
    assert (config.log_level, config.version, config.resync_seconds) == ("debug", "9", 12.5)
    assert (config.identity, config.pod_name) == ("u", "n")


def test_the_lease_lives_beside_the_pod_unless_told_otherwise() -> None:
    assert Config.from_env({**IMAGES, "POD_NAMESPACE": "here"}).lease_namespace == "here"


def test_two_processes_without_a_pod_uid_are_never_the_same_holder() -> None:
    assert Config.from_env(IMAGES).identity != Config.from_env(IMAGES).identity


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CHATBOT_POSTGRES_IMAGE", ""),
        ("CHATBOT_REDIS_IMAGE", " "),
        ("CHATBOT_LEASE_SECONDS", "0"),
        ("CHATBOT_LEASE_SECONDS", "soon"),
        ("CHATBOT_PROBE_PORT", "70000"),
        ("CHATBOT_LOG_LEVEL", "loud"),
        ("CHATBOT_MAX_CONCURRENT_PASSES", "0"),
        ("CHATBOT_RESYNC_SECONDS", "nan"),
        ("CHATBOT_MAX_CONCURRENT_RESTARTS", "1.5"),
        ("CHATBOT_WATCH_SILENCE_SECONDS", "1"),
    ],
)
def test_a_bad_setting_is_refused_by_name(variable: str, value: str) -> None:
    with pytest.raises(ConfigError, match=variable):
        Config.from_env({**IMAGES, variable: value})
