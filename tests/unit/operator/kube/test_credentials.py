"""Credentials of a pod's service account: where they come from and how they follow rotation."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kubernetes.aio.config import incluster_config

from chatbot_operator.errors import ConfigError
from chatbot_operator.kube.credentials import Credentials


def authority() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cluster")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pod's service account volume."""
    (tmp_path / "token").write_text("first\n")
    (tmp_path / "ca.crt").write_bytes(authority())
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    return tmp_path


async def test_a_pod_uses_its_service_account(mounted: Path) -> None:
    credentials = await Credentials.load()
    assert credentials.host == "https://10.96.0.1:443"
    assert await credentials.authorization() == "bearer first"
    assert credentials.tls is not True


async def test_a_rotated_token_is_used_within_a_minute_and_at_once_after_a_reload(mounted: Path) -> None:
    with time_machine.travel(datetime(2026, 1, 1, tzinfo=UTC), tick=False) as moment:
        credentials = await Credentials.load()
        (mounted / "token").write_text("second")
        assert await credentials.authorization() == "bearer first"
        moment.shift(61)
        assert await credentials.authorization() == "bearer second"
        (mounted / "token").write_text("third")
        await credentials.reload()
        assert await credentials.authorization() == "bearer third"


async def test_a_failed_reload_keeps_what_there_was(mounted: Path) -> None:
    credentials = await Credentials.load()
    (mounted / "token").unlink()
    with pytest.raises(ConfigError):
        await credentials.reload()
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=1)):
        assert await credentials.authorization() == "bearer first"


async def test_a_kubeconfig_that_is_named_wins_over_the_service_account(
    mounted: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    with pytest.raises(ConfigError):
        await Credentials.load()
