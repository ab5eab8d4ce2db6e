"""What the documents say exists. Needs nothing but git."""

import json
import re

import yaml

from chatbot_operator.constants import APP_PORT, FINALIZER, LABEL_INSTANCE
from chatbot_runtime.api.routes.webhooks import PATH
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


def test_notes_and_readme_say_how_to_purge() -> None:
    # Uninstalling keeps chatbots and deleting chatbots keeps data, so that going all the way takes commands of its own.
    lines = (
        "kubectl delete chatbot -A --all",
        "kubectl delete crd chatbotinstances.chatbotops.io",
        f"kubectl delete pvc,secret -A -l {LABEL_INSTANCE} ",
    )
    for name in ("README.md", "helm/chatbot-operator/templates/NOTES.txt"):
        text = (ROOT / name).read_text()
        places = [text.find(line) for line in lines]
        assert -1 not in places, name
        assert places == sorted(places), name


def test_whoever_shortens_the_list_of_namespaces_finds_how_to_free_what_is_held() -> None:
    path = "/metadata/finalizers/0"
    patch = json.dumps([{"op": "test", "path": path, "value": FINALIZER}, {"op": "remove", "path": path}], separators=(",", ":"))
    for name in ("README.md", "helm/chatbot-operator/templates/NOTES.txt", "helm/chatbot-operator/values.yaml"):
        text = (ROOT / name).read_text()
        assert "kubectl -n NAMESPACE patch chatbotinstance NAME --type=json" in text, name
        assert f"-p '{patch}'" in text, name


def test_the_way_in_of_the_readme_leads_to_the_webhook_of_the_sample() -> None:
    readme = (ROOT / "README.md").read_text()
    sample = yaml.safe_load((ROOT / "manifests/samples/production.yaml").read_text())
    metadata, address = sample["metadata"], sample["spec"]["app"]["publicURL"]
    rule = f"{address.removeprefix('https://')}{PATH}={metadata['name']}-app:{APP_PORT}"
    assert f"kubectl -n {metadata['namespace']} create ingress {metadata['name']} --class=... --rule='{rule}," in readme
    assert f"`{address}{PATH}`" in readme


def test_the_readme_names_the_kubernetes_that_the_tests_run_on() -> None:
    found = re.search(r"k8s\.io/kubernetes v(\S+)", (ROOT / "testbed/tools/kubernetes/go.mod").read_text())
    assert found is not None
    assert f"the tests run on {found[1]} alone" in (ROOT / "README.md").read_text()
