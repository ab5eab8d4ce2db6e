"""Runs programs that hand bytes on to each other; every one must end well, and each tells why it did not."""

import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import IO

from chatbot_postgres.layout import Refused

CHUNK = 1 << 20


class Program:
    """One running program with its error output in a file, so that a talkative one can't block."""

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str] | None = None, stdin: IO[bytes] | int = subprocess.DEVNULL
    ) -> None:
        """Start it; `stdin` is what the program before it writes to."""
        self.name = command[0]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed by stop()
        self.process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=self._errors, env=env)

    @property
    def output(self) -> IO[bytes]:
        """What it writes."""
        assert self.process.stdout is not None  # noqa: S101  narrows the type; it was asked for
        return self.process.stdout

    def wait(self) -> int:
        """Wait for its end and return the exit code."""
        return self.process.wait()

    def told(self) -> str:
        """Return the last lines of its error output."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return " ".join(lines[-3:])[:500]

    def stop(self) -> None:
        """Kill it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdout, self.process.stdin):
            if stream is not None:
                stream.close()
        self._errors.close()


def judge(program: Program, what: str, reason: str) -> None:
    """Take a program's end as it is.

    Raises:
        Refused: with `reason` if it failed by itself, with Killed if something ended it. One that lost its reader is not to blame.
    """
    code = program.wait()
    if code > 0:
        raise Refused(f"{what}: {program.told()}", reason)
    if code < 0 and code != -signal.SIGPIPE:
        raise Refused(f"{program.name} was ended by signal {-code}: most likely its memory limit is too low", "Killed")


@contextmanager
def running(*programs: Program) -> Iterator[None]:
    """Stop the programs at the end of a block, however it ends."""
    try:
        yield
    finally:
        for program in programs:
            program.stop()


@contextmanager
def limited(seconds: int, what: str) -> Iterator[None]:
    """Give up after so many seconds, and when the Job is told to end.

    Raises:
        Refused: with DeadlineExceeded or Terminated.
    """

    def late(_number: int, _frame: FrameType | None) -> None:
        raise Refused(f"{what} was not done within {seconds} s; give it a longer timeoutSeconds", "DeadlineExceeded")

    def told(_number: int, _frame: FrameType | None) -> None:
        raise Refused(f"{what} was told to end before it was done", "Terminated")

    before = [(number, signal.signal(number, handler)) for number, handler in ((signal.SIGALRM, late), (signal.SIGTERM, told))]
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        for number, handler in before:
            signal.signal(number, handler)
