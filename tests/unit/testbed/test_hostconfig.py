"""Needs nothing: what a build borrows from a machine, for machines unlike this one."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from testbed import hostconfig, packages
from testbed.errors import Refused


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A machine whose programs print what a test says; the key is how the command starts."""
    printed: dict[str, str] = {}

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        text = next((text for start, text in printed.items() if start in " ".join(command)), "")
        return subprocess.CompletedProcess(command, 0, stdout=text, stderr="")

    monkeypatch.setattr(hostconfig.subprocess, "run", run)
    monkeypatch.setattr(hostconfig, "_codename", lambda: "bookworm")
    return printed


def test_a_private_mirror_serves_the_images_too(machine: dict[str, str]) -> None:
    machine["indextargets"] = (
        "https://elsewhere.example/apt stable\nhttps://mirror.example/debian/ bookworm\nhttps://mirror.example/debian/ bookworm-updates\n"
        "https://mirror.example/security/ bookworm-security\n"
    )
    assert hostconfig.observe_mirror().sources() == (
        "deb https://mirror.example/debian trixie main\n"
        "deb https://mirror.example/debian trixie-updates main\n"
        "deb https://mirror.example/security trixie-security main\n"
    )


def test_a_mirror_without_security_is_taken_as_it_is(machine: dict[str, str]) -> None:
    machine["indextargets"] = "https://mirror.example/debian bookworm\n"
    assert "security" not in hostconfig.observe_mirror().sources()


def test_no_mirror_is_refused(machine: dict[str, str]) -> None:
    machine["indextargets"] = "https://elsewhere.example/apt stable\n"
    with pytest.raises(Refused, match="bookworm"):
        hostconfig.observe_mirror()


def test_only_settings_of_the_network_are_lent(machine: dict[str, str]) -> None:
    machine["apt-config dump"] = 'APT::Architecture "amd64";\nAcquire::http::Proxy "http://proxy.example:3128";\nDir::Cache "/x";\n'
    assert hostconfig.apt_settings() == 'Acquire::http::Proxy "http://proxy.example:3128";\n'


def test_pip_settings_of_files_and_environment_are_lent_and_directories_mounted(machine: dict[str, str], tmp_path: Path) -> None:
    machine["pip config list"] = (
        f":env:.find-links='{tmp_path} /does/not/exist https://wheels.example/x'\nglobal.index-url='https://index.example/simple'\n"
        "global.cert='/some/ca.pem'\nglobal.no-color='true'\n"
    )
    text, mounts = hostconfig.pip_settings()
    assert "index-url = https://index.example/simple\n" in text
    assert "find-links = /mnt/find-links-0 https://wheels.example/x\n" in text
    assert "no-color" not in text
    assert "/some/ca.pem" not in text, "a path of this machine means nothing inside a build"
    assert [(mount.source, mount.target) for mount in mounts] == [(tmp_path, "/mnt/find-links-0")]


def test_missing_packages_are_named_once() -> None:
    wanted = {"sh": "dash", "no-such-program": "zeta", "no-other-program": "zeta", "/no/such/file": "alpha"}
    assert packages.missing(wanted) == ["alpha", "zeta"]


def test_without_root_the_command_to_run_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.os, "geteuid", lambda: 1000)
    with pytest.raises(Refused, match="zeta"):
        packages.ensure({"no-such-program": "zeta"}, print)
