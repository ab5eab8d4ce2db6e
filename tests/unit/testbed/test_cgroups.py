"""Needs nothing: which control groups a node makes on machines of either version; directories stand in for the kernel's."""

from pathlib import Path

import pytest

from testbed.cgroups import NEEDED, Cgroups
from testbed.errors import Refused


def version_1(root: Path, *without: str) -> Cgroups:
    for name in (*NEEDED, "systemd"):
        if name not in without:
            (root / name).mkdir()
            (root / name / "cgroup.procs").write_text("")
    if "cpuset" not in without:
        (root / "cpuset/cpuset.cpus").write_text("0-1\n")
        (root / "cpuset/cpuset.mems").write_text("0\n")
    return Cgroups("chatbot-testbed-x", root)


def test_version_1_gets_a_group_in_every_hierarchy(tmp_path: Path) -> None:
    groups = version_1(tmp_path)
    assert not groups.unified
    groups.check()
    groups.create()
    assert all((tmp_path / name / "chatbot-testbed-x").is_dir() for name in (*NEEDED, "systemd"))


def test_joined_controllers_are_one_hierarchy(tmp_path: Path) -> None:
    groups = version_1(tmp_path, "cpu", "cpuacct")
    (tmp_path / "cpu,cpuacct").mkdir()
    (tmp_path / "cpu,cpuacct/cgroup.procs").write_text("")
    for name in ("cpu", "cpuacct"):
        (tmp_path / name).symlink_to("cpu,cpuacct")
    groups.check()
    groups.create()
    groups.remove()
    assert not (tmp_path / "cpu/chatbot-testbed-x").exists()


def test_a_missing_controller_is_named_before_anything_is_made(tmp_path: Path) -> None:
    groups = version_1(tmp_path, "memory", "pids")
    with pytest.raises(Refused, match="memory, pids"):
        groups.check()
    assert not list(tmp_path.glob("*/chatbot-testbed-x"))


def test_version_2_is_one_hierarchy(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids")
    groups = Cgroups("chatbot-testbed-x", tmp_path)
    assert groups.unified
    groups.check()
    groups.create()
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["chatbot-testbed-x"]
    groups.remove()
    groups.remove()
    assert not (tmp_path / "chatbot-testbed-x").exists()
