"""Rights of the role that the runtime works as: what each table needs and no more. Asserted by every run of `migrate`."""

from collections.abc import Iterator, Mapping
from typing import Final

from chatbot_runtime.db import schema_auth, schema_queue
from chatbot_runtime.db.metadata import metadata

READ: Final = "SELECT"
USE: Final = "SELECT, INSERT, UPDATE, DELETE"

SPECIAL: Final[Mapping[str, str]] = {
    schema_auth.audit_events.name: "SELECT, INSERT",
    schema_auth.audit_seals.name: "SELECT, INSERT",
    schema_auth.audit_unsealed.name: "SELECT, INSERT, DELETE",
    schema_auth.users.name: "SELECT, INSERT, UPDATE",
    schema_queue.schema_compat.name: READ,
}
"""Tables whose rights differ from `USE`."""


def render_grants(role: str) -> Iterator[str]:
    """Yield statements that give the role exactly its rights on the schema of this image.

    Args:
        role: name of an existing role.
    """
    quoted = '"' + role.replace('"', '""') + '"'
    yield f"GRANT USAGE ON SCHEMA public TO {quoted}"
    for table in metadata.sorted_tables:
        yield f"REVOKE ALL ON TABLE {table.name} FROM {quoted}"
        yield f"GRANT {SPECIAL.get(table.name, USE)} ON TABLE {table.name} TO {quoted}"
    yield f"GRANT {READ} ON TABLE alembic_version TO {quoted}"
