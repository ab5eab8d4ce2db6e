"""Roles, database and passwords as SQL that may run any number of times. A password leaves this process only as its SCRAM verifier."""

import base64
import hashlib
import hmac
import secrets

OWNER = "chatbot_owner"
APP = "chatbot_app"
ITERATIONS = 4096
"""PostgreSQL's own number; a client pays it at every login."""

_ATTRIBUTES = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"


def scram_verifier(password: str, salt: bytes | None = None) -> str:
    """Return what PostgreSQL stores for a password (RFC 5802; `SCRAM-SHA-256$<iterations>:<salt>$<stored>:<server>`).

    Args:
        password: printable ASCII, for which SASLprep changes nothing.
        salt: 16 random bytes if absent.
    """
    salt = secrets.token_bytes(16) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, ITERATIONS)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored = hashlib.sha256(client_key).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    text = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${ITERATIONS}:{text[0]}${text[1]}:{text[2]}"


def render_cluster_sql(database: str, verifiers: dict[str, str]) -> str:
    """Return SQL for the maintenance database: roles with their passwords, the database, and who may connect.

    Args:
        database: a plain lower-case name.
        verifiers: role (`postgres`, owner, app) to SCRAM verifier.
    """
    # Only constants, a name that Layout checked, and base64 go into the text.
    lines = ["SET log_statement = 'none';", "SET log_min_error_statement = 'panic';"]
    for role in (OWNER, APP):
        lines.append(_unless("pg_roles WHERE rolname", role, f"CREATE ROLE {role}"))
        lines.append(f"ALTER ROLE {role} WITH {_ATTRIBUTES};")
    lines += [f"ALTER ROLE {role} PASSWORD '{verifier}';" for role, verifier in verifiers.items()]
    lines += [
        _unless("pg_database WHERE datname", database, f"CREATE DATABASE {database} OWNER {OWNER}"),
        f"ALTER DATABASE {database} OWNER TO {OWNER};",
        f"REVOKE ALL ON DATABASE {database} FROM PUBLIC;",
        f"GRANT CONNECT ON DATABASE {database} TO {APP};",
    ]
    return "\n".join(lines) + "\n"


def render_schema_sql() -> str:
    """Return SQL for the chatbot's database: the app may use the schema, what is inside it the migration grants."""
    return f"REVOKE ALL ON SCHEMA public FROM PUBLIC;\nGRANT USAGE ON SCHEMA public TO {APP};\n"


def _unless(where: str, name: str, statement: str) -> str:
    """Return a psql line that runs a statement only if the catalog has no such name."""
    return f"SELECT '{statement}' WHERE NOT EXISTS (SELECT FROM {where} = '{name}') \\gexec"  # noqa: S608  constants and checked names
