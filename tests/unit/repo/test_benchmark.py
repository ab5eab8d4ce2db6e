"""A published number names what it was measured on. Needs nothing but git."""

import subprocess
from pathlib import Path

import pytest

from bench.report import MODULES_OF_CLUSTER, commit, pinned


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit and nothing changed."""
    for name in ("operator/engine.py", "helm/values.yaml"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("one\n")
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def test_a_clean_tree_is_named_by_its_commit_alone(checkout: Path) -> None:
    assert len(commit(checkout)) == 40


@pytest.mark.parametrize("name", ["operator/engine.py", "helm/values.yaml", "testbed/new.py"])
def test_a_change_or_a_new_file_anywhere_is_said(checkout: Path, name: str) -> None:
    (checkout / name).parent.mkdir(exist_ok=True)
    (checkout / name).write_text("two\n")
    assert commit(checkout).endswith(" with changes")


@pytest.mark.parametrize("family", MODULES_OF_CLUSTER)
def test_versions_of_the_cluster_are_read_where_they_are_pinned(family: str) -> None:
    assert pinned(family, MODULES_OF_CLUSTER[family]).startswith("v")
