"""The Admin UI's files as files: vendored code equals its lock, both languages are complete, nothing comes from elsewhere or inline."""

import json
import re
from pathlib import Path

import pytest

from tools import vendor

UI = Path(vendor.VENDOR).parent
SCRIPTS = sorted((UI / "js").glob("*.js"))
PAGES = sorted(UI.glob("*.html"))
DYNAMIC = re.compile(r"^(reason|todo|part|status|state|outcome|actor|problem|theme|fresh|channel|page|audit|decisions|people)\.")
"""Keys that scripts put together from data; the others must be found literally."""


def texts(language: str) -> dict[str, str]:
    loaded: dict[str, str] = json.loads((UI / f"i18n/{language}.json").read_text())
    return loaded


def test_vendored_files_are_those_of_the_lock() -> None:
    assert vendor.problems() == []


def test_a_changed_vendored_file_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in vendor.VENDOR.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "htm.js").write_text("changed")
    (tmp_path / "extra.js").write_text("not locked")
    (tmp_path / "preact.js").unlink()
    monkeypatch.setattr(vendor, "VENDOR", tmp_path)
    assert vendor.problems() == ["preact.js is missing", "extra.js is not in the lock", "htm.js differs from the lock"]


def test_each_vendored_package_comes_with_its_licence() -> None:
    for name, package in vendor.load().items():
        assert f"{name}.LICENSE" in package["files"]
        assert package["license"] in ("MIT", "Apache-2.0")


def test_both_languages_have_the_same_texts_and_placeholders() -> None:
    spanish, english = texts("es"), texts("en")
    assert spanish.keys() == english.keys()
    for key, text in english.items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", spanish[key])), key
        assert text.strip(), key


def test_every_text_that_a_script_names_exists_and_every_text_is_used() -> None:
    source = "\n".join(path.read_text() for path in SCRIPTS)
    named = set(re.findall(r"""\bt\(\s*["']([\w.-]+)["']""", source)) | set(re.findall(r'"(page\.\w+|todo\.\w+)"', source))
    assert named <= texts("en").keys()
    unused = {key for key in texts("en") if key not in named and not DYNAMIC.match(key) and f'"{key}"' not in source}
    assert unused == set()


@pytest.mark.parametrize("path", [*SCRIPTS, *PAGES, UI / "css/ui.css"], ids=lambda path: path.name)
def test_nothing_is_inline_or_from_another_site(path: Path) -> None:
    text = path.read_text()
    allowed = text.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://(?!\$\{)", allowed)
    assert not re.search(r"\b(eval|innerHTML|dangerouslySetInnerHTML|document\.write)\b", text)
    if path.suffix == ".html":
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=", text)
