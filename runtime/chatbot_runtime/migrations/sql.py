"""Runs SQL scripts in migrations: asyncpg prepares each statement, and one prepared statement holds one command."""

import re
from collections.abc import Iterator

from alembic import op

_END = re.compile(r";\s*(?:\n|$)")


def split(script: str) -> Iterator[str]:
    """Yield the statements of a script whose statements end with a semicolon at the end of a line; a `$$` body is not split."""
    start = 0
    for end in _END.finditer(script):
        piece = script[start : end.start()]
        if piece.count("$$") % 2:
            continue
        start = end.end()
        if piece.strip():
            yield piece.strip()
    if script[start:].strip():
        raise ValueError(f"the script ends without a semicolon: {script[start:].strip()[:60]!r}")


def run(script: str) -> None:
    """Run a script in the migration's transaction."""
    bind = op.get_bind()
    for statement in split(script):
        bind.exec_driver_sql(statement)
