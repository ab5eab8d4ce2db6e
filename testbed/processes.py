"""Child processes that outlive the command which started them, found again by pid *and* start time."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from testbed.errors import Failed
from testbed.settings import Settings

MARK: Final = "CHATBOT_TESTBED_CHILD_OF"
"""Set in the environment of every child: finds those whose pid file was never written because the command died."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a pid file holds: enough to never take a recycled pid for ours."""

    pid: int
    start_time: int
    """Clock ticks from boot to start of the process (field 22 of /proc/PID/stat)."""
    boot_id: str
    argv: list[str]

    def alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        return self.boot_id == _boot_id() and _start_time(self.pid) == self.start_time


class Processes:
    """The processes of one test bed, each under a name."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def start(self, name: str, argv: Sequence[str], *, prefix: Sequence[str] = (), env: Mapping[str, str] | None = None) -> int:
        """Start a process in a session of its own, with its output in `log/NAME.log`.

        Args:
            name: Key of the pid file and of the log.
            argv: Program and arguments.
            prefix: Command that enters a namespace and then *executes in place* (nsenter, unshare), so that the pid stays.
            env: Variables to add to the environment.

        Returns:
            The pid.
        """
        self.settings.pids.mkdir(parents=True, exist_ok=True)
        self.settings.log.mkdir(parents=True, exist_ok=True)
        command = [*prefix, *map(str, argv)]
        with (self.settings.log / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.settings.directory,
                env={**os.environ, **(env or {}), MARK: str(self.settings.directory)},
            )
        child.returncode = 0  # Popen must not warn or reap: the process outlives this command on purpose
        record = Record(child.pid, _start_time(child.pid) or 0, _boot_id(), command)
        file = self.settings.pids / f"{name}.json"
        temporary = file.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(record)))
        temporary.replace(file)
        return child.pid

    def names(self) -> list[str]:
        """Names of all recorded processes, dead or alive."""
        return sorted(file.stem for file in self.settings.pids.glob("*.json"))

    def record(self, name: str) -> Record | None:
        """Return what the pid file of `name` says, or None without one (or with one cut short by a crash)."""
        try:
            return Record(**json.loads((self.settings.pids / f"{name}.json").read_text()))
        except (FileNotFoundError, json.JSONDecodeError, TypeError):
            return None

    def alive(self, name: str) -> bool:
        """Whether the recorded process runs."""
        record = self.record(name)
        return record is not None and record.alive()

    def require_alive(self, name: str) -> None:
        """Raise with the end of its log when a process that should run does not.

        Raises:
            Failed: The process has ended.
        """
        if not self.alive(name):
            log = self.settings.log / f"{name}.log"
            raise Failed(f"{name} ended unexpectedly; last lines of {log}:\n{tail(log)}")

    def stop(self, name: str, grace: float = 10.0) -> None:
        """End one process (SIGTERM, then SIGKILL after `grace` seconds) and forget it."""
        record = self.record(name)
        if record is not None and record.alive():
            _end(record, grace)
        (self.settings.pids / f"{name}.json").unlink(missing_ok=True)

    def stop_all(self, names: Sequence[str] | None = None, grace: float = 10.0) -> None:
        """End the named (by default all) processes, in the given order, then strays of a command that died half-way."""
        for name in self.names() if names is None else names:
            self.stop(name, grace)
        if names is None:
            for record in self.strays():
                _end(record, grace)

    def strays(self) -> Iterator[Record]:
        """Yield live processes that carry our mark: recorded or not."""
        wanted = f"{MARK}={self.settings.directory}".encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                marked = wanted in (entry / "environ").read_bytes().split(b"\0")
            except OSError:  # ended meanwhile, or another user's
                continue
            start = _start_time(int(entry.name))
            if marked and start is not None:
                yield Record(int(entry.name), start, _boot_id(), [])


def tail(file: Path, lines: int = 15) -> str:
    """Return the last lines of a log, or a note that there is none."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - 65536))
            return "\n".join(stream.read().decode(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(no log)"


def _end(record: Record, grace: float) -> None:
    for sign, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, sign)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            _reap(record.pid)
            if not record.alive():
                return
            time.sleep(0.02)
    raise Failed(f"Process {record.pid} ({' '.join(record.argv[:1])}) did not end after SIGKILL.")


def _reap(pid: int) -> None:
    """Collect a zombie, if the process happens to be a child of this very command."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _start_time(pid: int) -> int | None:
    """Return the start time of a live process in clock ticks, None if it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()  # the command's name may hold spaces and brackets
    # A zombie whose other threads still end (field 20 counts them) holds its ports and files until the last one has.
    return None if fields[0] in "ZX" and int(fields[17]) <= 1 else int(fields[19])
