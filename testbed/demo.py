"""`python -m testbed demo`: from nothing to a chatbot that answers a WhatsApp message, on a real cluster on this machine."""

import http.client
import subprocess
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import yaml

from testbed import node
from testbed.api import Api, ApiError
from testbed.blobs import Image
from testbed.command import command_line
from testbed.demoprovider import CUSTOMER, ProviderClient, is_ready, render_provider
from testbed.errors import MISHAPS, Failed, TestbedError, describe
from testbed.images import PREFIX, ROOT, ImageStore
from testbed.progress import Progress
from testbed.settings import Settings
from testbed.tools import binary

SAMPLE: Final = ROOT / "manifests" / "samples" / "quickstart.yaml"
BACKUP: Final = ROOT / "manifests" / "samples" / "backup.yaml"
CHART: Final = ROOT / "helm" / "chatbot-operator"
OPERATOR: Final = "chatbot-operator"
GREETING: Final = "Hola"
_READY_S: Final = 300.0
_ANSWER_S: Final = 30.0
_BACKUP_S: Final = 120.0
_QUESTION_S: Final = 60.0
_LINE: Final = 150
"""Characters of a progress line."""

Object = dict[str, Any]


class Demo:
    """The steps of the demo after the cluster is up; each may run again on what is already there."""

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self._settings = settings
        self._progress = progress
        self._api = Api.from_settings(settings)
        documents = [document for document in yaml.safe_load_all(SAMPLE.read_text()) if document]
        self._instance: Object = next(document for document in documents if document["kind"] == "ChatbotInstance")
        self.namespace: str = self._instance["metadata"]["namespace"]
        self.name: str = self._instance["metadata"]["name"]

    def load_images(self) -> list[Image]:
        """Build what changed and bring it into the node."""
        with self._progress.step("images"):
            store = ImageStore(self._settings.cache, self._progress.say)
            images = store.ensure()
            moved = node.load_images(self._settings, store, images)
        if self._instance["spec"]["release"]["image"] in moved:
            self._restart_chatbot()
        return images

    def _restart_chatbot(self) -> None:
        """Replace pods that run an older image of the same name: the sample names a version, not a digest."""
        selector = f"chatbotops.io/instance={self.name},chatbotops.io/component in (app,scheduler)"
        pods = self._api.get(f"/api/v1/namespaces/{self.namespace}/pods", labelSelector=selector)["items"]
        for pod in pods:
            self._api.delete(f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}")
        if pods:
            self._progress.say("the chatbot's image changed: its pods are replaced")

    def install_operator(self, images: list[Image]) -> None:
        """Install or upgrade the chart; the image's tag is its content, so that a changed operator is rolled out."""
        tag = next(image.content_name for image in images if image.name.startswith(f"{PREFIX}operator:")).rpartition(":")[2]
        with self._progress.step("helm install of the operator"):
            helm = binary(self._settings, "helm", self._progress)
            arguments = ["upgrade", "--install", OPERATOR, str(CHART), "--namespace", OPERATOR, "--create-namespace"]
            self._run([str(helm), *arguments, "--set", f"image.tag={tag}", "--wait", "--timeout", "180s"])

    def apply_sample(self) -> None:
        """Apply the sample as it is, and the provider that it names."""
        with self._progress.step(f"apply {SAMPLE.relative_to(ROOT)} and a local WhatsApp provider"):
            self._run([str(binary(self._settings, "kubectl")), "apply", "-f", str(SAMPLE)])
            cloud = self._instance["spec"]["channels"]["cloud"]
            webhook = f"http://{self.name}-app.{self.namespace}.svc:8003/webhooks/cloud"
            image = self._instance["spec"]["release"]["image"]
            for path, manifest in render_provider(self.namespace, image, cloud["secretRef"]["name"], webhook):
                self._api.apply(path, manifest)
            self._wait(lambda: is_ready(self._api, self.namespace), 60, "the provider")

    def wait_ready(self) -> None:
        """Wait for `Ready=True` of the current generation, saying each new reason on the way."""
        with self._progress.step("wait until the chatbot is Ready"):
            said = ""

            def ready() -> bool:
                nonlocal said
                instance = self._get_instance()
                condition = find_condition(instance, "Ready")
                text = f"{condition.get('reason', 'Unknown')}: {condition.get('message', 'not yet looked at by the operator')}"
                if text != said:
                    said = text
                    self._progress.say(f"  {textwrap.shorten(text, _LINE, placeholder=' ...')}")
                current = condition.get("observedGeneration") == instance["metadata"]["generation"]
                return bool(current and condition.get("status") == "True")

            self._wait(ready, _READY_S, f"ChatbotInstance {self.namespace}/{self.name} to be Ready", lambda: said)

    def converse(self) -> None:
        """Send a message as a customer and show the answer that reaches the provider."""
        with self._progress.step("a customer writes on WhatsApp"):
            provider = ProviderClient(self._api, self.namespace)
            before = len(provider.messages())
            self._progress.say(f"  {CUSTOMER} -> chatbot: {GREETING}")
            provider.say(GREETING)
            answer = provider.wait_answer(before, _ANSWER_S)
            text = answer["body"].get("text", {}).get("body") or answer["body"].get("type")
            self._progress.say(f"  chatbot -> {answer['to']}: {text}")

    def back_up(self) -> None:
        """Make the backup of the sample, unless it is there, and show what proves it."""
        with self._progress.step("back up the database, and read all of it back"):
            self._api.patch(self._instance_path, {"spec": {"backup": {}}})
            self._run([str(binary(self._settings, "kubectl")), "apply", "-f", str(BACKUP)])
            metadata = yaml.safe_load(BACKUP.read_text())["metadata"]
            target = f"/apis/chatbotops.io/v1alpha1/namespaces/{metadata['namespace']}/chatbotbackups/{metadata['name']}"
            said = "not yet looked at by the operator"

            def proven() -> bool:
                nonlocal said
                condition = find_condition(self._api.get(target), "Verified")
                said = f"{condition.get('reason', 'Unknown')}: {condition.get('message', said)}"
                return condition.get("status") == "True"

            self._wait(proven, _BACKUP_S, f"ChatbotBackup {metadata['name']} to be Verified", lambda: said)
            archive = self._api.get(target)["status"]["archive"]
            rows = sum(table["rows"] for table in archive["tables"])
            self._progress.say(f"  {metadata['name']}: {archive['sizeBytes']} bytes, encrypted; {said}; {rows} rows")

    def summary(self) -> str:
        """Return what a person wants to know next."""
        kubectl = str(binary(self._settings, "kubectl"))
        table = self._run([kubectl, "get", "chatbot", "--all-namespaces"])
        endpoints = self._get_instance().get("status", {}).get("endpoints", {})
        service = self._api.get(f"/api/v1/namespaces/{self.namespace}/services/{self.name}-app")
        secret, _, key = str(endpoints.get("adminPasswordSecret", "")).partition("/")
        quoted = key.replace(".", chr(92) + ".")
        return f"""
{table.rstrip()}

Try next (the first line gives you kubectl and helm of this cluster):
  eval "$({command_line(f"--dir {self._settings.directory} env")})"
  kubectl -n {self.namespace} delete deployment {self.name}-app   # it comes back
  kubectl -n {self.namespace} patch cbi {self.name} --type=merge -p '{{"spec":{{"lifecycle":"Hibernated"}}}}'   # sleeps, keeps its data

Admin UI        http://{service["spec"]["clusterIP"]}:8003/ui/index.html   (user admin; reachable from this machine)
Its password    kubectl -n {self.namespace} get secret {secret} -o jsonpath='{{.data.{quoted}}}' | base64 -d
Remove everything: make demo-down"""

    def explain_failure(self) -> Path:
        """Write what a person needs to find the cause into one file and return its path."""
        target = self._settings.log / "demo-failure.txt"
        kubectl = str(binary(self._settings, "kubectl"))
        questions = (
            f"get chatbotinstance {self.name} -n {self.namespace} -o yaml",
            f"get pods,jobs,persistentvolumeclaims -n {self.namespace} -o wide",
            f"get events -n {self.namespace} --sort-by=.lastTimestamp",
            f"get pods,events -n {OPERATOR}",
            f"logs -n {OPERATOR} deployment/{OPERATOR} --all-pods --tail=200",
            f"logs -n {self.namespace} -l chatbotops.io/instance={self.name} --all-containers --prefix --tail=60",
        )
        answers = [f"$ kubectl {question}\n{self._ask([kubectl, self._kubeconfig, *question.split()])}\n" for question in questions]
        target.write_text("\n".join(answers))
        return target

    def _ask(self, command: list[str]) -> str:
        """Return what a program has to say, its failure included: one question without an answer must not hide the others."""
        try:
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_QUESTION_S)
        except subprocess.TimeoutExpired as error:
            return describe(error)
        return done.stdout + done.stderr

    @property
    def _kubeconfig(self) -> str:
        return f"--kubeconfig={self._settings.kubeconfig('admin')}"

    def _get_instance(self) -> Object:
        return self._api.get(self._instance_path)

    @property
    def _instance_path(self) -> str:
        return f"/apis/chatbotops.io/v1alpha1/namespaces/{self.namespace}/chatbotinstances/{self.name}"

    def _run(self, command: list[str]) -> str:
        done = subprocess.run([command[0], self._kubeconfig, *command[1:]], check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(f"`{Path(command[0]).name} {command[1]}` failed: {(done.stderr or done.stdout).strip()[-800:]}")
        return done.stdout

    def _wait(self, condition: Callable[[], bool], seconds: float, what: str, last: Callable[[], str] = str) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                if condition():
                    return
            except (ApiError, OSError, http.client.HTTPException) as error:
                if time.monotonic() > deadline:
                    raise Failed(f"Waited {seconds:.0f} s for {what}; last error: {error}") from None
            if time.monotonic() > deadline:
                raise Failed(f"Waited {seconds:.0f} s for {what}. {last()}")
            time.sleep(0.25)


def find_condition(instance: Object, kind: str) -> Object:
    """Return a condition of an instance, or an empty one."""
    conditions = instance.get("status", {}).get("conditions", [])
    return next((condition for condition in conditions if condition["type"] == kind), {})


def run(settings: Settings, progress: Progress) -> None:
    """Run the demo on a node that is up, and print its summary.

    Raises:
        Failed: a step failed, by whatever cause; the message ends with the file that holds conditions, events and logs.
    """
    demo = Demo(settings, progress)
    try:
        images = demo.load_images()
        demo.install_operator(images)
        demo.apply_sample()
        demo.wait_ready()
        demo.converse()
        demo.back_up()
        print(demo.summary())
        progress.say("done")
    except (Failed, *MISHAPS) as error:
        raise Failed(f"{describe(error)}\n{_explain(demo)}") from error


def _explain(demo: Demo) -> str:
    """Say where the explanation of a failure is; what keeps it from being written must not hide the failure."""
    try:
        return f"Conditions, events and logs: {demo.explain_failure()}"
    except (TestbedError, *MISHAPS) as error:
        return f"Conditions, events and logs could not be gathered: {describe(error)}"
