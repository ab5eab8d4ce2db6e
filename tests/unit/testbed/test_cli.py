"""Needs nothing: the commands as a person or a script meets them, by their exit code and by what they print."""

import http.client
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from testbed import cli, demo
from testbed.api import ApiError
from testbed.errors import Failed, Refused
from testbed.images import ROOT
from testbed.progress import Progress
from testbed.settings import Settings

MISHAPS = {
    "a refusal by the API server": (ApiError(503, "etcd is away"), "503: etcd is away"),
    "no connection": (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
    "half an answer": (http.client.IncompleteRead(b"x"), "IncompleteRead(1 bytes read)"),
    "a program that hangs": (subprocess.TimeoutExpired(["helm", "upgrade"], 60), "timed out after 60 seconds"),
    "a program that ends badly": (subprocess.CalledProcessError(1, ["tar"]), "returned non-zero exit status 1"),
}


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A work directory with a log; the cluster of `demo` counts as up."""
    monkeypatch.setattr(cli, "_up", lambda *_: 0)
    (tmp_path / "run" / "log").mkdir(parents=True)
    return tmp_path / "run"


def do(step: Callable[[], None]) -> Callable[[Settings, Progress], None]:
    """Return a demo that is this one step."""

    def run(_: Settings, progress: Progress) -> None:
        with progress.step("the step"):
            step()
        sys.stdout.write("the summary\n")

    return run


@pytest.mark.parametrize("mishap", MISHAPS)
def test_whatever_goes_wrong_on_the_way_is_one_cause_and_the_place_of_the_logs(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mishap: str
) -> None:
    error, cause = MISHAPS[mishap]

    def fail() -> None:
        raise error

    monkeypatch.setattr(demo, "run", do(fail))
    assert cli.main(["--dir", str(directory), "demo"]) == 1
    first, *_, last = capsys.readouterr().err.partition("testbed: ")[2].splitlines()
    assert cause in first
    assert last == f"Logs: {directory / 'log'}"


def test_a_refusal_changed_nothing_and_needs_no_logs(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise Refused("Too little disk.")

    monkeypatch.setattr(demo, "run", do(refuse))
    assert cli.main(["--dir", str(directory), "demo"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "testbed: Too little disk."


def test_logs_that_were_never_begun_are_not_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> Path:
        raise Failed("Building kubectl failed.")

    monkeypatch.setattr(cli, "binary", fail)
    assert cli.main(["--dir", str(tmp_path / "run"), "build", "kubectl"]) == 1
    assert capsys.readouterr().err == "testbed: Building kubectl failed.\n"


def test_the_demo_says_how_far_it_is_beside_its_summary(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "run", do(lambda: None))
    assert cli.main(["--dir", str(directory), "demo"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "the summary\n"
    lines = [line.partition("] ")[2] for line in shown.err.splitlines()]
    assert lines[0] == "cluster with one real node ..."
    assert [line.partition(" in ")[0] for line in lines[1:]] == ["cluster with one real node: done", "the step ...", "the step: done"]
    assert all(line.startswith("[") and "s] " in line for line in shown.err.splitlines())


def test_removing_a_demo_that_is_not_there_is_fine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--dir", str(tmp_path / "run"), "demo-down"]) == 0
    assert f"no test bed in {tmp_path / 'run'}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["demo", "now"], ["demo-down", "--node"], ["up", "--node", "--sim", "2"], ["up", "--sim", "x"], []])
def test_arguments_that_mean_nothing_end_with_the_usage(arguments: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "testbed", "--dir", str(tmp_path / "run"), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")
    assert list(tmp_path.iterdir()) == []
