"""What the documents say exists. Needs nothing but git."""

import re

from tools.generate import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/**/*.md")])


def test_documents_name_only_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.M))
    unknown = []
    for path in DOCUMENTS:
        text = path.read_text()
        named = re.findall(r"^make ([a-z][a-z0-9-]*)", text, re.M) + re.findall(r"`make ([a-z][a-z0-9-]*)`", text)
        unknown += [f"{path.relative_to(ROOT)}: make {target}" for target in named if target not in targets]
    assert unknown == []


def test_local_links_in_documents_lead_somewhere() -> None:
    broken = []
    for path in DOCUMENTS:
        prose = re.sub(r"`[^`]*`", "", path.read_text())
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", prose):
            if not (path.parent / target).exists():
                broken.append(f"{path.relative_to(ROOT)}: {target}")
    assert broken == []
