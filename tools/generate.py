"""Writes everything that follows from the API models: `crds/`, the chart's copies, the API reference. `--check` only compares."""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from chatbot_operator.api.v1alpha1.kinds import KINDS
from tools.crd import render_crd
from tools.reference import render_reference

ROOT = Path(__file__).resolve().parent.parent
_NOTE = "# Generated from operator/chatbot_operator/api by `make generate`; do not edit.\n"


class _PlainDumper(yaml.SafeDumper):
    """Writes a value that stands twice twice: Helm and people read no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def render_files() -> dict[str, str]:
    """Return the content of every generated file by its path from the root of the repository."""
    files: dict[str, str] = {}
    crds = [render_crd(kind) for kind in KINDS]
    for crd in crds:
        plural = crd["spec"]["names"]["plural"]
        files[f"crds/chatbotops.io_{plural}.yaml"] = _NOTE + _to_yaml(crd)
        files[f"helm/chatbot-operator/templates/crds/{plural}.yaml"] = _to_template(crd)
    files["docs/api-reference.md"] = render_reference(crds)
    return files


def _to_yaml(document: dict[str, Any]) -> str:
    return yaml.dump(document, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True, width=140)


def _to_template(crd: dict[str, Any]) -> str:
    """Return the chart's copy: installed and kept by the values under `crds`.

    Raises:
        ValueError: the CRD holds what Helm would take for a template.
    """
    body = _to_yaml(crd)
    if "{{" in body:
        raise ValueError(f"{crd['metadata']['name']} holds a template mark")
    name = crd["metadata"]["name"]
    head = f"metadata:\n  name: {name}\n"
    labels = head + (
        '  labels: {{- include "chatbot-operator.labels" . | nindent 4 }}\n'
        "  {{- if .Values.crds.keep }}\n"
        "  annotations:\n"
        "    helm.sh/resource-policy: keep\n"
        "  {{- end }}\n"
    )
    if body.count(head) != 1:
        raise ValueError(f"{name}: metadata is not where it was expected")
    return f"{_NOTE}{{{{- if .Values.crds.install }}}}\n{body.replace(head, labels)}{{{{- end }}}}\n"


def find_drift() -> list[str]:
    """Return the generated files whose content on disk is not what the models say."""
    expected = render_files()
    drifted = [path for path, text in expected.items() if not (ROOT / path).is_file() or (ROOT / path).read_text() != text]
    for folder in ("crds", "helm/chatbot-operator/templates/crds"):
        drifted += [path for found in (ROOT / folder).glob("*") if (path := str(found.relative_to(ROOT))) not in expected]
    return drifted


def main() -> int:
    """Write the files, or with `--check` name those that would change; the exit code is 1 when there are any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when a file would change")
    if parser.parse_args().check:
        drifted = find_drift()
        for path in drifted:
            print(f"{path} does not follow from the models: run `make generate`", file=sys.stderr)
        return 1 if drifted else 0
    for path, text in render_files().items():
        target = ROOT / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
