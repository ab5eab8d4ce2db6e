"""What can go wrong in the test bed, told apart by whether anything was changed before."""

import http.client
import subprocess
from typing import Final


class TestbedError(Exception):
    """Base of errors that end the command with one sentence instead of a traceback."""

    exit_code = 1
    __test__ = False  # its name begins like a test class


class Refused(TestbedError):
    """The machine lacks something; raised before anything is changed."""

    exit_code = 2


class Failed(TestbedError):
    """A step failed on the way; the message says where its log is."""


MISHAPS: Final = (OSError, http.client.HTTPException, subprocess.SubprocessError)
"""What disk, network and other programs do to a step; whoever knows more of the step makes them `Failed` earlier."""


def describe(error: Exception) -> str:
    """Return an error as one sentence: a mishap needs the name of its kind, as its own text may be no more than a word."""
    return str(error) if isinstance(error, TestbedError) else f"{type(error).__name__}: {error}"
