"""`python3 -m chatbot_postgres bootstrap | serve | backup | backup-verify`: the image's commands (docs/runtime-contract.md)."""

import sys
from collections.abc import Callable, Mapping, Sequence

from chatbot_postgres import backup, bootstrap, serve, verify
from chatbot_postgres.layout import Layout, Refused
from chatbot_postgres.place import Place

COMMANDS: Mapping[str, Callable[[], int]] = {
    "bootstrap": lambda: bootstrap.run(Layout.from_env()),
    "serve": lambda: serve.run(Layout.from_env()),
    "backup": lambda: backup.run(Place.from_env()),
    "backup-verify": lambda: verify.run(Place.from_env()),
}
EXIT_USAGE = 2


def main(argv: Sequence[str]) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 wrong arguments or settings."""
    if len(argv) != 1 or argv[0] not in COMMANDS:
        sys.stderr.write(f"usage: {' | '.join(COMMANDS)}\n")
        return EXIT_USAGE
    try:
        return COMMANDS[argv[0]]()
    except Refused as refused:
        sys.stderr.write(f"{argv[0]}: {refused}\n")
        return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
