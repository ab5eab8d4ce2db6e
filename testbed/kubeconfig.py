"""Kubeconfig files with everything embedded, so that one file is enough anywhere on the machine."""

import base64
from pathlib import Path

import yaml

from testbed.settings import Settings


def write(settings: Settings, name: str, server: str) -> Path:
    """Write the kubeconfig of the user whose certificate is `pki/NAME.crt`."""
    user = {
        "client-certificate-data": _encoded(settings.pki / f"{name}.crt"),
        "client-key-data": _encoded(settings.pki / f"{name}.key"),
    }
    return _write(settings.kubeconfig(name), server, settings.pki / "ca.crt", user)


def write_token(file: Path, server: str, ca_file: Path, token: str, namespace: str = "default") -> Path:
    """Write the kubeconfig of a bearer token, such as a ServiceAccount's."""
    return _write(file, server, ca_file, {"token": token}, namespace)


def _write(file: Path, server: str, ca_file: Path, user: dict[str, str], namespace: str = "default") -> Path:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "testbed", "cluster": {"server": server, "certificate-authority-data": _encoded(ca_file)}}],
        "users": [{"name": file.stem, "user": user}],
        "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": file.stem, "namespace": namespace}}],
        "current-context": "testbed",
    }
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_text(yaml.safe_dump(content))
    return file


def _encoded(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()
