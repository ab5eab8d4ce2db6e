"""Settings: what can't be used is refused in a sentence that quotes no part of a secret, wherever a URL was cut. Needs nothing."""

from pathlib import Path

import pytest

from chatbot_runtime.errors import ConfigError
from chatbot_runtime.settings import Role, Settings, load_settings

HEAD, TAIL = "4tq9Zx7mLr", "w8Kp2vNs6y"
GOOD = f"postgresql://bot:{HEAD}@db/chatbot"


def refused(**settings: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(Role.MIGRATE, **settings)
    return str(caught.value)


@pytest.mark.parametrize("special", list("?@"))
def test_a_database_url_that_a_password_breaks_is_refused_without_quoting_it(special: str) -> None:
    text = refused(database_url=f"postgresql://bot:{HEAD}{special}{TAIL}@db:5432/chatbot")
    assert text.startswith("DATABASE_URL: ")
    assert HEAD not in text
    assert TAIL not in text


@pytest.mark.parametrize("special", list("?/#[]\u2100"))
def test_a_redis_url_that_a_password_breaks_is_refused_without_quoting_it(special: str) -> None:
    text = refused(database_url=GOOD, redis_url=f"redis://:{HEAD}{special}{TAIL}@cache:6379/0")
    assert text.startswith("REDIS_URL: is not a usable URL")
    assert HEAD not in text
    assert TAIL not in text


@pytest.mark.parametrize(
    "url",
    [
        TAIL,
        f"mysql://bot:{TAIL}@db/chatbot",
        f"postgresql://bot@db:{TAIL}/chatbot",
        f"postgresql://bot@db/chatbot?password={TAIL}",
        f"postgresql://bot@db/chatbot?{TAIL}",
        f"postgresql://bot@db/chatbot?port={TAIL}",
    ],
)
def test_a_database_url_of_another_form_is_refused_without_quoting_it(url: str) -> None:
    assert TAIL not in refused(database_url=url)


def test_a_file_is_refused_without_quoting_what_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "url").write_text(f"postgresql://bot:{HEAD}?{TAIL}@db/chatbot\n")
    monkeypatch.setenv("DATABASE_URL_FILE", str(tmp_path / "url"))
    text = refused()
    assert HEAD not in text
    assert TAIL not in text


@pytest.mark.parametrize("special", list("/#[]:%& é\u2100"))
def test_a_password_that_the_libraries_understand_is_known_for_redaction(special: str) -> None:
    settings = Settings(database_url=f"postgresql://bot:{HEAD}{special}{TAIL}@db:5432/chatbot")
    assert f"{HEAD}{special}{TAIL}" in settings.secret_values()


def test_an_encoded_password_is_redacted_in_both_forms() -> None:
    settings = Settings(database_url=GOOD, redis_url=f"redis://:{HEAD}%2F{TAIL}@cache:6379/0")
    assert {f"{HEAD}/{TAIL}", f"{HEAD}%2F{TAIL}", HEAD} <= set(settings.secret_values())


def test_a_secret_that_looks_like_a_url_is_only_a_secret() -> None:
    assert "wl9://4tq9[Zx7mLr" in Settings(database_url=GOOD, admin_password="wl9://4tq9[Zx7mLr").secret_values()


@pytest.mark.parametrize(
    ("given", "understood"),
    [("127.0.0.1", "127.0.0.1/32"), ("10.244.3.7/16, 10.1.2.3", "10.244.0.0/16,10.1.2.3/32"), ("fd00::1/8", "fd00::/8")],
)
def test_trusted_proxies_are_networks(given: str, understood: str) -> None:
    assert Settings(database_url=GOOD, trusted_proxies=given).trusted_proxies == understood


@pytest.mark.parametrize("given", ["*", "ingress", "10.256.0.0/16", "10.0.0.0/8,", "10.0.0.0/33"])
def test_a_proxy_that_nobody_would_trust_is_refused(given: str) -> None:
    assert refused(database_url=GOOD, trusted_proxies=given).startswith("TRUSTED_PROXIES: must be addresses or networks")


@pytest.mark.parametrize(
    "name",
    [
        "db_statement_timeout_ms", "session_idle_min", "session_max_h", "cloud_pair_interval_s", "outbox_ttl_min", "unknown_wait_s",
        "lease_ttl_s", "human_idle_h",
    ],
)  # fmt: skip
def test_a_time_with_too_many_digits_is_refused_by_its_name(name: str) -> None:
    """It would start, and then no date could hold what it is added to: each request and each turn would fail."""
    text = refused(**{"database_url": GOOD, name: "1440144014401440"})
    assert text.startswith(f"{name.upper()}: Input should be less than or equal to")
    assert "1440144014401440" not in text
