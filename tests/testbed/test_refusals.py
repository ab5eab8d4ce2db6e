"""Needs nothing (root lets it try another user for real): who may not do what is asked is told so in a sentence, and nothing is changed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cluster import ROOT

NOBODY = 65534
_AS_NOBODY = """
import os, sys
from testbed import cli
if os.geteuid() == 0:
    os.setgroups([]); os.setgid({uid}); os.setuid({uid})
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory in which a user without rights may write; pytest's own can be entered by its owner only."""
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    made = tmp_path / "home"
    made.mkdir()
    if os.geteuid() == 0:
        os.chown(made, NOBODY, NOBODY)
    return made


def refusal(home: Path, *arguments: str) -> str:
    """Run a command as a user without rights; return its sentence. The program is loaded before, as the checkout may be root's alone."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TESTBED_")} | {"HOME": str(home)}
    command = [sys.executable, "-c", _AS_NOBODY.format(uid=NOBODY), *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    return line


def test_a_node_without_root_is_refused_before_anything_is_changed(home: Path) -> None:
    assert refusal(home, "up", "--node") == "testbed: A node needs root: it makes namespaces, mounts and control groups."
    assert list(home.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory that another user must not enter")
@pytest.mark.parametrize("command", [["up"], ["status"], ["env"], ["down"]])
def test_a_directory_of_another_user_is_named(home: Path, tmp_path: Path, command: list[str]) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    assert f"{closed / 'run'} can't be used by this user (Permission denied)" in refusal(home, "--dir", str(closed / "run"), *command)
    assert list(closed.iterdir()) == []
