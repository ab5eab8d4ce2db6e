"""A cluster that is up is never lost from sight by the targets that remove things. Needs make; runs in a copy of the Makefile alone."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tools.generate import ROOT

PYTHON = """#!/bin/sh
case "$*" in
  "-m venv "*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  "-c "*) pwd ;;
  "-m testbed demo-down") echo "taken down" ;;
esac
"""
"""Stands in for Python: makes an environment of itself, and says when it would take a cluster down."""
Made = subprocess.CompletedProcess[str]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout without an environment, and with as much of the rest as making one needs."""
    made = tmp_path / "checkout"
    (made / "tools").mkdir(parents=True)
    (made / "requirements").mkdir()
    (made / "requirements/dev.txt").touch()
    shutil.copy(ROOT / "Makefile", made)
    for name, text in (("python", PYTHON), ("tools/packages", "#!/bin/sh\n")):
        (made / name).write_text(text)
        (made / name).chmod(0o755)
    return made


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """The work directory of a test bed, as one that is down leaves it."""
    (tmp_path / "run/log").mkdir(parents=True)
    return tmp_path / "run"


def make(checkout: Path, cluster: Path, target: str) -> Made:
    """Run a target with this work directory."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    environment = {**inherited, "TESTBED_DIR": str(cluster), "PYTHON": str(checkout / "python")}
    return subprocess.run(["make", target], cwd=checkout, env=environment, capture_output=True, text=True, timeout=60, check=False)


def put_up(cluster: Path, trace: str) -> None:
    """Leave what a test bed that is up, or was killed on the way there, leaves."""
    (cluster / "site.json").write_text("{}") if trace == "site.json" else (cluster / trace).mkdir()


@pytest.mark.parametrize("trace", ["site.json", "pids"])
def test_a_cluster_that_outlived_the_environment_is_taken_down_all_the_same(checkout: Path, cluster: Path, trace: str) -> None:
    put_up(cluster, trace)
    done = make(checkout, cluster, "demo-down")
    assert done.returncode == 0, done.stderr
    assert "taken down" in done.stdout


def test_without_an_environment_that_can_be_made_taking_down_fails(checkout: Path, cluster: Path) -> None:
    put_up(cluster, "site.json")
    (checkout / "tools/packages").write_text("#!/bin/sh\nexit 2\n")
    assert make(checkout, cluster, "demo-down").returncode == 2


def test_with_nothing_up_no_environment_is_made_to_say_so(checkout: Path, cluster: Path) -> None:
    done = make(checkout, cluster, "demo-down")
    assert (done.returncode, done.stdout) == (0, f"no cluster is up in {cluster}\n")
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize("trace", ["site.json", "pids"])
def test_nothing_is_cleaned_while_a_cluster_is_up(checkout: Path, cluster: Path, trace: str) -> None:
    put_up(cluster, trace)
    (checkout / ".venv").mkdir()
    done = make(checkout, cluster, "clean")
    assert done.returncode == 2
    assert f"a cluster is up in {cluster}: run `make demo-down` first" in done.stderr
    assert (checkout / ".venv").exists()


def test_a_checkout_without_a_cluster_is_cleaned(checkout: Path, cluster: Path) -> None:
    (checkout / ".venv").mkdir()
    assert make(checkout, cluster, "clean").returncode == 0
    assert not (checkout / ".venv").exists()
