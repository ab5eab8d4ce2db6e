"""How this program is called on this machine: a fresh Debian has no `python`, and only one interpreter has the libraries."""

import shlex
import sys
from pathlib import Path


def command_line(arguments: str = "") -> str:
    """Return the line that runs `testbed` with the interpreter of this process, short when that lies below the current directory."""
    interpreter = Path(sys.executable)
    if interpreter.is_relative_to(Path.cwd()):
        interpreter = interpreter.relative_to(Path.cwd())
    return f"{shlex.quote(str(interpreter))} -m testbed {arguments}".rstrip()
