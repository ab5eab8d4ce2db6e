"""Migrations as texts: numbered, marked, reversible, and in step with what the code says about itself. Needs nothing."""

from types import ModuleType
from typing import cast

import pytest
from alembic.script import ScriptDirectory

from chatbot_runtime.db.compat import CODE_VERSION, NEEDS_SCHEMA, judge
from chatbot_runtime.db.grants import render_grants
from chatbot_runtime.db.metadata import metadata
from chatbot_runtime.db.migrate import config
from chatbot_runtime.migrations.sql import split

SCRIPTS = {item.revision: cast("ModuleType", item.module) for item in ScriptDirectory.from_config(config()).walk_revisions()}


def test_revisions_are_numbered_without_a_gap() -> None:
    assert sorted(SCRIPTS) == [f"{number:04}" for number in range(1, len(SCRIPTS) + 1)]


def test_the_code_knows_its_head() -> None:
    assert len(SCRIPTS) == CODE_VERSION
    assert NEEDS_SCHEMA <= CODE_VERSION


@pytest.mark.parametrize("revision", sorted(SCRIPTS))
def test_a_migration_says_whether_old_code_survives_it(revision: str) -> None:
    module, before = SCRIPTS[revision], SCRIPTS.get(f"{int(revision) - 1:04}")
    assert module.PHASE in ("expand", "contract")
    since = before.COMPATIBLE_SINCE if before else 1
    assert (since < module.COMPATIBLE_SINCE) is (module.PHASE == "contract")
    assert int(revision) >= module.COMPATIBLE_SINCE


@pytest.mark.parametrize(
    ("version", "since", "ok"), [(3, 1, True), (4, 1, True), (4, 3, True), (4, 4, False), (2, 1, False), (0, 0, False)]
)
def test_code_and_schema_fit_in_either_direction(version: int, since: int, ok: bool) -> None:
    assert judge(version, since, code=3, needs=3).ok is ok


def test_statements_are_split_outside_of_function_bodies() -> None:
    script = "CREATE TABLE a (x int);\nCREATE FUNCTION f() AS $$\nBEGIN\n  x;\nEND $$;\nDROP TABLE a;\n"
    assert list(split(script)) == ["CREATE TABLE a (x int)", "CREATE FUNCTION f() AS $$\nBEGIN\n  x;\nEND $$", "DROP TABLE a"]
    with pytest.raises(ValueError, match="without a semicolon"):
        list(split("SELECT 1"))


def test_every_table_is_granted_and_the_trail_can_not_be_changed() -> None:
    grants = list(render_grants('odd"name'))
    for table in metadata.tables:
        assert any(f" ON TABLE {table} TO " in line for line in grants)
    assert all('"odd""name"' in line for line in grants)
    for name in ("audit_events", "audit_seals"):
        assert [line for line in grants if f"TABLE {name} TO" in line] == [f'GRANT SELECT, INSERT ON TABLE {name} TO "odd""name"']
