"""Needs nothing: processes are found by pid and start time, so that no stranger is ever killed."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from testbed import cache
from testbed.errors import Failed, Refused
from testbed.processes import Processes, tail
from testbed.settings import Settings
from testbed.tools import binary


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(directory=tmp_path, cache=tmp_path / "cache", port_base=20000)


@pytest.fixture
def processes(settings: Settings) -> Iterator[Processes]:
    made = Processes(settings)
    yield made
    made.stop_all(grace=0)


def test_a_process_is_started_seen_and_ended(processes: Processes) -> None:
    processes.start("sleeper", ["sleep", "60"])
    assert processes.alive("sleeper")
    assert processes.names() == ["sleeper"]
    processes.stop("sleeper")
    assert not processes.alive("sleeper")
    assert processes.names() == []


def test_a_process_that_ignores_sigterm_is_killed(processes: Processes, settings: Settings) -> None:
    # One process: a child of a shell would outlive it for a moment.
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    processes.start("deaf", [sys.executable, "-c", deaf])
    while tail(settings.log / "deaf.log") != "deaf":
        processes.require_alive("deaf")
    processes.stop("deaf", grace=0.3)
    assert list(processes.strays()) == []


def test_a_recycled_pid_is_left_alone(processes: Processes, settings: Settings) -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        processes.start("sleeper", ["sleep", "60"])
        record = processes.record("sleeper")
        assert record is not None
        # Started long before the stranger, which may be as old as the sleeper or a tick older.
        stale = replace(record, pid=stranger.pid, start_time=record.start_time - 1000)
        (settings.pids / "stale.json").write_text(json.dumps(asdict(stale)))
        assert not processes.alive("stale")
        processes.stop("stale")
        assert stranger.poll() is None, "a process that we did not start was killed"
        stranger.kill()


def test_a_record_of_an_earlier_boot_is_dead(processes: Processes, settings: Settings) -> None:
    processes.start("sleeper", ["sleep", "60"])
    record = processes.record("sleeper")
    assert record is not None
    (settings.pids / "sleeper.json").write_text(json.dumps(asdict(replace(record, boot_id="another"))))
    assert not processes.alive("sleeper")


@pytest.mark.parametrize("content", ["", '{"pid": 1', "{}"])
def test_a_pid_file_cut_short_counts_as_dead(processes: Processes, settings: Settings, content: str) -> None:
    settings.pids.mkdir()
    (settings.pids / "cut.json").write_text(content)
    assert not processes.alive("cut")
    processes.stop("cut")
    assert processes.names() == []


def test_a_process_whose_pid_file_was_never_written_is_found(processes: Processes, settings: Settings) -> None:
    processes.start("lost", ["sleep", "60"])
    (settings.pids / "lost.json").unlink()
    assert len(list(processes.strays())) == 1
    processes.stop_all()
    assert list(processes.strays()) == []


def test_a_dead_process_is_reported_with_its_last_words(processes: Processes, settings: Settings) -> None:
    processes.start("short", ["sh", "-c", "echo the cause"])
    record = processes.record("short")
    assert record is not None
    while record.alive():
        pass
    with pytest.raises(Failed, match="the cause"):
        processes.require_alive("short")
    assert tail(settings.log / "absent.log") == "(no log)"


@pytest.mark.parametrize("text", ["x", "80", "70000", "-1"])
def test_a_bad_port_base_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("TESTBED_PORT_BASE", text)
    with pytest.raises(Refused, match="TESTBED_PORT_BASE"):
        Settings.from_env()


def test_a_full_disk_is_refused_for_a_directory_that_is_not_there_yet(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="GiB free"):
        cache.require_space(tmp_path / "a" / "b", 1e9, "a test")


def test_cache_keys_see_content_and_borders() -> None:
    assert cache.key(["ab", "c"]) != cache.key(["a", "bc"])
    assert cache.key(["ab"]) == cache.key([b"ab"])


def test_an_unknown_tool_is_refused(settings: Settings) -> None:
    with pytest.raises(Refused, match="no tool 'kubctl'"):
        binary(settings, "kubctl")


def test_a_process_lives_until_its_last_thread_has_ended(processes: Processes) -> None:
    """Its first thread is a zombie before that, while the others still hold the ports."""
    script = "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(2,)).start(); ctypes.CDLL(None).pthread_exit(None)"
    pid = processes.start("threads", [sys.executable, "-c", script])
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    assert processes.alive("threads")
    while processes.alive("threads"):
        time.sleep(0.01)
