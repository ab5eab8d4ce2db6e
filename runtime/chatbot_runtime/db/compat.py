"""Whether this code and the database's schema can work together, in either direction.

Migrations are numbered 1, 2, 3, … A schema says its own number and the least code version that can work with it (`schema_compat`): an
expanding migration leaves that as it was, a contracting one raises it. Code says the version it was written for and the least it needs.
"""

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection

from chatbot_runtime.db.schema_queue import schema_compat

CODE_VERSION: Final = 3
"""Number of the newest migration in this image."""

NEEDS_SCHEMA: Final = 3
"""Least schema that this code works with."""


@dataclass(frozen=True, slots=True)
class Compatibility:
    """The verdict: `problem` is empty when code and schema fit, else one sentence. `version` is 0 when there is no schema."""

    version: int
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether this code may work on this schema."""
        return not self.problem


def judge(version: int, compatible_since: int, *, code: int = CODE_VERSION, needs: int = NEEDS_SCHEMA) -> Compatibility:
    """Compare numbers. Pure."""
    if version < needs:
        return Compatibility(version, f"the schema has version {version}, this release needs {needs}: the migration has not run yet")
    if compatible_since > code:
        return Compatibility(
            version, f"the schema has version {version} and needs a release of version {compatible_since}, this one is {code}"
        )
    return Compatibility(version)


async def check_schema(conn: AsyncConnection) -> Compatibility:
    """Read the schema's numbers and judge.

    Raises:
        DBAPIError: the database can't answer; a missing table is no error but version 0.
    """
    try:
        row = (await conn.execute(sa.select(schema_compat.c.version, schema_compat.c.compatible_since))).one_or_none()
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", "") != "42P01":
            raise
        row = None
    return judge(row.version, row.compatible_since) if row else judge(0, 0)
