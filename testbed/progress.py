"""Progress lines with elapsed time, so that a wait never looks like a hang."""

import contextlib
import sys
import time
from collections.abc import Iterator


class Progress:
    """Prints a line when a step starts to take time and another when it ends."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._started = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since this object was made."""
        return time.monotonic() - self._started

    def say(self, text: str) -> None:
        """Print one line with the elapsed time in front."""
        if not self._quiet:
            print(f"[{self.elapsed:6.1f}s] {text}", file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Announce a step, and say how long it took once it has ended well."""
        begin = time.monotonic()
        self.say(f"{text} ...")
        yield
        self.say(f"{text}: done in {time.monotonic() - begin:.1f}s")
