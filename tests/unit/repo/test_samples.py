"""What the samples need is what their reader is told to make. Needs nothing but git."""

import re
from pathlib import Path
from typing import Any

import yaml

from chatbot_operator.api.v1alpha1.instance import ChatbotInstanceSpec
from chatbot_operator.desired.references import references
from tools.generate import ROOT

SAMPLES = sorted((ROOT / "manifests/samples").glob("*.yaml"))
TEXTS = [*SAMPLES, *sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]
COMMAND = re.compile(r"kubectl -n (\S+) create secret (generic|docker-registry) (\S+)((?: +--\S+)+)")
Secrets = dict[tuple[str, str], tuple[str, ...]]
"""(namespace, name) -> keys."""


def documents() -> list[dict[str, Any]]:
    """Return every object of every sample."""
    return [document for path in SAMPLES for document in yaml.safe_load_all(path.read_text()) if document]


def told(path: Path) -> Secrets:
    """Return the Secrets that the commands of a text make. One for a registry has the keys that Kubernetes wants, whatever its options."""
    text = re.sub(r"^# ?", "", path.read_text(), flags=re.M) if path.suffix == ".yaml" else path.read_text()
    found = COMMAND.findall(re.sub(r"\\\n\s*", " ", text))
    assert len(found) == text.count("create secret "), f"{path.name}: a command of another form, of which this test can't tell the keys"
    keys = {options: tuple(sorted(re.findall(r"--from-(?:literal|file)=([^=\s]+)=", options))) for *_, options in found}
    return {(namespace, name): keys[options] if kind == "generic" else () for namespace, kind, name, options in found}


def test_the_secrets_of_each_sample_are_made_with_exactly_the_keys_that_it_refers_to() -> None:
    wanted: Secrets = {}
    made: Secrets = {}
    for document in documents():
        metadata = document["metadata"]
        if document["kind"] == "ChatbotInstance":
            spec = ChatbotInstanceSpec.model_validate(document["spec"])
            wanted |= {(metadata["namespace"], name): keys for name, keys in references(metadata["name"], spec).items()}
        if document["kind"] == "Secret":
            made[metadata["namespace"], metadata["name"]] = tuple(sorted(document["stringData"]))
    for path in TEXTS:
        made |= told(path)
    assert wanted
    assert made == wanted
