"""The `migrate` command against real servers: what it does, and what it says it did. Needs PostgreSQL."""

import pytest

pytestmark = pytest.mark.component


def test_smoke(database) -> None:
    assert database.sql("select version from schema_compat") == ["3"]
