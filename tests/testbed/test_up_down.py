"""Needs the control plane's programs: `up` and `down` leave nothing behind, survive crashes, refuse early, and keep apart."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from testbed.api import Api
from testbed.plane import COMPONENTS
from testbed.processes import MARK, Processes
from testbed.settings import Settings
from tests.support.cluster import ROOT, find, free_port_base, fresh_settings, run_testbed

pytestmark = pytest.mark.controlplane


@pytest.fixture
def settings() -> Iterator[Settings]:
    with fresh_settings() as fresh:
        yield fresh
        run_testbed(fresh, "down")


def machine() -> tuple[set[str], set[str]]:
    """Return this machine's mounts and network interfaces."""
    mounts = {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    return mounts, {path.name for path in Path("/sys/class/net").iterdir()}


def refusal(settings: Settings, *arguments: str) -> str:
    """Run a command that must be refused; return its sentence."""
    result = run_testbed(settings, *arguments, check=False)
    assert result.returncode == 2, result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]


def test_down_leaves_no_process_mount_interface_or_state(settings: Settings) -> None:
    before = machine()
    run_testbed(settings, "up", "--sim", "2")
    cluster = find(settings.directory)
    assert cluster is not None
    names = {item["metadata"]["name"] for item in Api(cluster.admin).get("/api/v1/nodes")["items"]}
    assert names == {"sim-1", "sim-2"}
    assert run_testbed(settings, "status").stdout.count("running") == len(COMPONENTS) + 2
    assert str(settings.kubeconfig("admin")) in run_testbed(settings, "env").stdout

    run_testbed(settings, "down")
    assert list(Processes(settings).strays()) == []
    assert machine() == before
    assert {path.name for path in settings.directory.iterdir()} <= {"lock", "log"}
    with socket.create_server(("127.0.0.1", settings.port("apiserver"))):
        pass
    assert run_testbed(settings, "status", check=False).returncode == 1
    run_testbed(settings, "down")


def test_up_is_idempotent_and_never_replaces_another_kind(settings: Settings) -> None:
    run_testbed(settings, "up")
    pids = {name: Processes(settings).record(name) for name in COMPONENTS}
    assert "already running" in run_testbed(settings, "up").stderr
    assert {name: Processes(settings).record(name) for name in COMPONENTS} == pids
    assert "Another kind" in refusal(settings, "up", "--sim", "1")
    assert find(settings.directory) is not None


def test_a_busy_port_is_refused_before_anything_is_changed(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", settings.port("scheduler"))):
        assert f"Port {settings.port('scheduler')} (for scheduler) is in use" in refusal(settings, "up")
    assert {path.name for path in settings.directory.iterdir()} == {"lock"}


def test_up_after_components_were_killed_starts_anew(settings: Settings) -> None:
    run_testbed(settings, "up")
    processes = Processes(settings)
    killed = [processes.record(name) for name in ("etcd", "kube-apiserver")]
    for record in killed:
        assert record is not None
        os.kill(record.pid, signal.SIGKILL)
    while any(record.alive() for record in killed if record):
        time.sleep(0.01)
    status = run_testbed(settings, "status", check=False)
    assert status.returncode == 1
    assert status.stdout.count("NOT RUNNING") == 2

    run_testbed(settings, "up")
    assert find(settings.directory) is not None
    assert len(list(processes.strays())) == len(COMPONENTS)


def test_up_after_up_was_killed_half_way_starts_anew(settings: Settings) -> None:
    environment = os.environ | {
        "TESTBED_DIR": str(settings.directory),
        "TESTBED_PORT_BASE": str(settings.port_base),
        "TESTBED_CACHE": str(settings.cache),
    }
    with subprocess.Popen([sys.executable, "-m", "testbed", "up"], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) as command:
        while not (settings.pids / "etcd.json").exists():
            assert command.poll() is None
        command.kill()
    run_testbed(settings, "up")
    assert find(settings.directory) is not None
    assert len(list(Processes(settings).strays())) == len(COMPONENTS)


def test_an_interrupted_or_failed_up_stops_what_it_started(settings: Settings) -> None:
    environment = os.environ | {
        "TESTBED_DIR": str(settings.directory),
        "TESTBED_PORT_BASE": str(settings.port_base),
        "TESTBED_CACHE": str(settings.cache),
    }
    # A test run in the background of a script may have inherited an ignored SIGINT.
    own = {"stderr": subprocess.PIPE, "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen([sys.executable, "-m", "testbed", "up"], cwd=ROOT, env=environment, **own) as command:
        while not (settings.pids / "kube-apiserver.json").exists():
            assert command.poll() is None
        command.send_signal(signal.SIGINT)
        assert command.wait(30) == 130
    assert list(Processes(settings).strays()) == []
    assert (settings.log / "etcd.log").exists(), "logs must stay for the person who looks for the cause"


def test_two_planes_stand_side_by_side(settings: Settings) -> None:
    with fresh_settings() as other:
        run_testbed(settings, "up")
        second = replace(other, port_base=free_port_base())
        try:
            run_testbed(second, "up")
            clusters = [find(each.directory) for each in (settings, second)]
            for cluster, name in zip(clusters, ("here", "there"), strict=True):
                assert cluster is not None
                Api(cluster.admin).create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
            assert clusters[0] is not None
            names = {item["metadata"]["name"] for item in Api(clusters[0].admin).get("/api/v1/namespaces")["items"]}
            assert "here" in names
            assert "there" not in names
        finally:
            run_testbed(second, "down")
        assert find(settings.directory) is not None, "stopping one plane took the other down"


def test_env_without_a_test_bed_is_refused(settings: Settings) -> None:
    assert "There is no test bed" in refusal(settings, "env")


def test_two_builds_at_once_do_not_race(tmp_path: Path) -> None:
    """A cache of its own; Go's build cache is shared, so this costs a second."""
    environment = os.environ | {"TESTBED_CACHE": str(tmp_path)}
    command = [sys.executable, "-m", "testbed", "build", "kwok"]
    builds = [subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    paths = {build.communicate()[0].strip() for build in builds}
    assert [build.returncode for build in builds] == [0, 0]
    [path] = paths
    assert [file.name for file in Path(path).parent.iterdir()] == ["kwok"]
    assert subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0


def test_programs_do_not_inherit_the_mark_of_the_test_run() -> None:
    assert MARK not in os.environ, "a test run inside a test bed's process would be killed by its `down`"
