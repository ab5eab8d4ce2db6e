"""Rules of the repository that no linter knows. Needs nothing but git."""

import ast
import json
import re
import subprocess
from pathlib import Path

import pytest

from tools.generate import ROOT

# Written in two parts, so that this file does not match itself.
INDEX_HOSTS = [
    "py" + "pi.org",
    "python" + "hosted.org",
    "npm" + "js.org",
    "proxy.go" + "lang.org",
    "sum.go" + "lang.org",
    "crates" + ".io",
    "deb.deb" + "ian.org",
    "security.deb" + "ian.org",
    "repo.maven" + ".apache.org",
]


def tracked() -> list[Path]:
    """Return the files that git knows or would take, so that a new file is checked before it is committed."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def text_of(path: Path) -> str:
    """Return the text of a file, empty for binary ones."""
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return ""


@pytest.mark.parametrize("folder", ["operator", "runtime"])
def test_source_folders_are_no_packages(folder: str) -> None:
    # A package named `operator` would shadow the standard library's module, and then even `import collections` fails.
    assert (ROOT / folder).is_dir()
    assert not (ROOT / folder / "__init__.py").exists()


def test_no_file_names_an_index_host() -> None:
    # Where packages come from is a matter of the machine, lock files included.
    named = [f"{path.relative_to(ROOT)}: {host}" for path in tracked() if (text := text_of(path)) for host in INDEX_HOSTS if host in text]
    assert named == []


def test_requirements_are_locked_by_hash() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        pins = re.findall(r"^([A-Za-z0-9][^\s=]*)==.*?(?=^[A-Za-z0-9]|\Z)", path.read_text(), re.M | re.S)
        blocks = re.split(r"^(?=[A-Za-z0-9])", path.read_text(), flags=re.M)
        unhashed = [block.splitlines()[0] for block in blocks if block.strip() and "==" in block and "--hash=sha256:" not in block]
        assert pins
        assert unhashed == []


COMMENTS = ("#", "//", "/*", "<!--", "{{/*", "{{- /*", "--")
SILENT = {
    r"(.*\.)?LICENSE": "a licence is kept word for word",
    r"runtime/chatbot_runtime/ui/vendor/.*": "kept as published; tools/vendor.py says what it is",
    r".*/i18n/.*\.json": "texts by language; the format has no comments",
    r".*/go\.sum": "hashes that go writes",
    r"requirements/.*\.txt": "pins and hashes that `make lock` writes",
    r"runtime/chatbot_runtime/ui/icon\.svg": "a picture that says itself what it is",
    r"tests/golden/expected/.*": "what tests/golden/test_golden.py compares with, as it writes it",
}
"""Files that say nowhere why they exist, each with the reason."""


def _says_why(path: Path) -> bool:
    text = text_of(path)
    if not text.strip():
        return path.name in {"__init__.py", "py.typed"}
    if path.suffix == ".py":
        return bool(re.match(r'\s*(#[^\n]*\n)*\s*r?"""\S', text))
    if path.suffix == ".json":
        return bool(json.loads(text).get("description"))
    lines = [line for line in text.splitlines() if line != "<!doctype html>"]
    first = lines[1] if lines[0].startswith("#!") and len(lines) > 1 else lines[0]
    return first.startswith(COMMENTS)


def test_every_file_says_why_it_exists() -> None:
    named = {str(path.relative_to(ROOT)): path for path in tracked()}
    unnamed = {name: path for name, path in named.items() if not any(re.fullmatch(pattern, name) for pattern in SILENT)}
    assert [name for name, path in unnamed.items() if not _says_why(path)] == []


def test_every_exception_stands_for_a_file() -> None:
    names = [str(path.relative_to(ROOT)) for path in tracked()]
    assert [pattern for pattern in SILENT if not any(re.fullmatch(pattern, name) for name in names)] == []


MAX_LINES = {"file": 400, "function": 50}
TOO_LONG: dict[str, str] = {}
"""Exceptions by `file` or `file:function`, each with its reason."""


def test_files_and_functions_stay_small_enough_to_read() -> None:
    large = {}
    for path in tracked():
        if path.suffix != ".py":
            continue
        name, text = str(path.relative_to(ROOT)), text_of(path)
        large[name] = ("file", text.count("\n"))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                large[f"{name}:{node.name}"] = ("function", (node.end_lineno or node.lineno) - node.lineno + 1)
    found = {name: lines for name, (kind, lines) in large.items() if lines > MAX_LINES[kind]}
    assert found.keys() == TOO_LONG.keys(), found


def test_every_exception_of_the_linter_has_its_reason() -> None:
    bare = []
    for path in tracked():
        if path.suffix == ".py":
            lines = text_of(path).splitlines()
            bare += [
                f"{path.relative_to(ROOT)}:{number}"
                for number, line in enumerate(lines, 1)
                if re.search(r"# noqa(: [A-Z0-9, ]+)?\s*$", line)
            ]
    table = (ROOT / "pyproject.toml").read_text().partition("[tool.ruff.lint.per-file-ignores]")[2].partition("\n[")[0]
    bare += [line for line in table.splitlines() if line and "] #" not in line]
    assert bare == []
