"""The image's commands: `chatbot app | scheduler | worker-web | migrate` (docs/runtime-contract.md). Each is imported only when it runs."""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

from chatbot_runtime.errors import ConfigError
from chatbot_runtime.settings import Role, Settings, load_settings

COMMANDS: Mapping[Role, tuple[str, str]] = {
    Role.APP: ("chatbot_runtime.app", "serve the HTTP API, the Admin UI and webhooks"),
    Role.SCHEDULER: ("chatbot_runtime.scheduler.main", "run the bot, the Cloud API sender and periodic work"),
    Role.WORKER_WEB: ("chatbot_runtime.worker_web.main", "run WhatsApp Web automation of the number in WEB_NUMBER"),
    Role.MIGRATE: ("chatbot_runtime.db.migrate", "bring the schema to this image's head"),
}
"""A command's module has `run(settings: Settings) -> int`, whose result is the exit code."""

EXIT_CONFIG = 2
"""The process was started wrongly; a restart can't help."""

EXIT_FAILED = 1
"""A Job left a result that says `Failed`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; those of the process by default.

    Returns:
        The exit code: 0 done or drained, 1 failed, 2 wrong settings or arguments.
    """
    parser = argparse.ArgumentParser(prog="chatbot", description="The chatbot runtime. Settings come from the environment.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for role, (_, text) in COMMANDS.items():
        commands.add_parser(role.value, help=text)
    role = Role(parser.parse_args(argv).command)
    try:
        settings = load_settings(role)
    except ConfigError as error:
        sys.stderr.write("".join(f"chatbot {role.value}: {problem}\n" for problem in error.problems))
        if role is Role.MIGRATE:
            _leave_result(error)
            return EXIT_FAILED
        return EXIT_CONFIG
    run = cast("Callable[[Settings], int]", importlib.import_module(COMMANDS[role][0]).run)
    return run(settings)


def _leave_result(error: ConfigError) -> None:
    """Leave a Job's result although there are no settings, as nobody reads its standard error."""
    from chatbot_runtime.db.result import MigrateResult, write_result

    result = MigrateResult("Failed", "MigrationFailed", f"wrong settings: {'; '.join(error.problems)}")
    write_result(result, Path(os.environ.get("TERMINATION_LOG", "/dev/termination-log")))
