"""`python3 -m chatbot_postgres bootstrap | serve`: the image's commands (docs/runtime-contract.md)."""

import sys
from collections.abc import Sequence

from chatbot_postgres import bootstrap, serve
from chatbot_postgres.layout import Layout, Refused

COMMANDS = {"bootstrap": bootstrap.run, "serve": serve.run}
EXIT_USAGE = 2


def main(argv: Sequence[str]) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 wrong arguments or settings."""
    if len(argv) != 1 or argv[0] not in COMMANDS:
        sys.stderr.write(f"usage: {' | '.join(COMMANDS)}\n")
        return EXIT_USAGE
    try:
        layout = Layout.from_env()
    except Refused as refused:
        sys.stderr.write(f"{argv[0]}: {refused}\n")
        return EXIT_USAGE
    return COMMANDS[argv[0]](layout)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
