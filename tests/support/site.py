"""A chatbot on a real node, as its team sees it: kubectl, Helm, HTTP to the Service, and the WhatsApp provider at the other end."""

import base64
import http.client
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from testbed.api import Api, ApiError
from testbed.demo import find_condition
from testbed.demoprovider import ProviderClient
from testbed.tools import binary
from tests.support.cluster import Cluster
from tests.support.kubeapi import path

Object = dict[str, Any]
APP_PORT: Final = 8003
IMAGE: Final = "localhost/chatbot-runtime:0.1.0"


@dataclass
class Probe:
    """What a stream of requests saw while something was changed."""

    sent: int = 0
    failures: list[str] = field(default_factory=list)


class Site:
    """One instance on one cluster."""

    def __init__(self, cluster: Cluster, namespace: str, name: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.name = name
        self.api = Api(cluster.admin)

    # -- the API server -----------------------------------------------------------------------------------------------

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl as the administrator and return what it printed."""
        command = [str(binary(self.cluster.settings, "kubectl")), f"--kubeconfig={self.cluster.admin}", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=300)
        if check:
            assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr or done.stdout}"
        return done.stdout if done.returncode == 0 else done.stderr

    def instance(self) -> Object:
        """Return the ChatbotInstance."""
        return self.api.get(path("ChatbotInstance", self.namespace, self.name))

    def patch(self, spec: Object) -> Object:
        """Merge something into the spec."""
        return self.api.patch(path("ChatbotInstance", self.namespace, self.name), {"spec": spec})

    def condition(self, kind: str) -> Object:
        """Return a condition, or an empty object."""
        return find_condition(self.instance(), kind)

    def list(self, kind: str, **labels: str) -> list[Object]:
        """Return the objects of a kind that belong to the instance; `labels` without prefix, such as component="app"."""
        wanted = {"instance": self.name, **labels}
        selector = ",".join(f"chatbotops.io/{key}={value}" for key, value in wanted.items())
        items: list[Object] = self.api.get(path(kind, self.namespace), labelSelector=selector)["items"]
        return items

    def pods(self, **labels: str) -> dict[str, tuple[str, int]]:
        """Return the long-running pods: name -> (uid, restarts)."""
        found = {}
        for pod in self.list("Pod", **labels):
            owner = pod["metadata"].get("ownerReferences", [{}])[0].get("kind")
            if owner != "Job" and "deletionTimestamp" not in pod["metadata"]:
                restarts = sum(each["restartCount"] for each in pod["status"].get("containerStatuses", []))
                found[pod["metadata"]["name"]] = (pod["metadata"]["uid"], restarts)
        return found

    def wait(self, what: str, check: Callable[[], object], seconds: float = 180) -> None:
        """Wait until `check` gives something true; API errors count as not yet."""
        deadline = time.monotonic() + seconds
        last = ""
        while True:
            try:
                if check():
                    return
            except (ApiError, OSError) as error:
                last = str(error)
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}. {last} Conditions: {self._conditions()}"
            time.sleep(0.25)

    def wait_condition(self, kind: str, status: str, reason: str = "", seconds: float = 180) -> Object:
        """Wait for a condition that speaks of the current generation, and return it."""

        def holds() -> bool:
            instance = self.instance()
            found = find_condition(instance, kind)
            current = found.get("observedGeneration") == instance["metadata"]["generation"]
            return current and found.get("status") == status and reason in ("", found.get("reason"))

        self.wait(f"{kind}={status} {reason}", holds, seconds)
        return self.condition(kind)

    def wait_ready(self, seconds: float = 240) -> None:
        """Wait until the instance serves at its current generation."""
        self.wait_condition("Ready", "True", seconds=seconds)

    def _conditions(self) -> str:
        try:
            found = self.instance().get("status", {}).get("conditions", [])
        except (ApiError, OSError) as error:
            return str(error)
        return "; ".join(f"{each['type']}={each['status']}/{each['reason']} {each.get('message', '')}" for each in found)

    # -- the chatbot --------------------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """ClusterIP of the app; the host reaches it."""
        address: str = self.api.get(path("Service", self.namespace, f"{self.name}-app"))["spec"]["clusterIP"]
        return address

    def http(self, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """Make one request on a connection of its own."""
        connection = http.client.HTTPConnection(self.address, APP_PORT, timeout=10)
        try:
            connection.request(method, target, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def secret(self, name: str) -> dict[str, str]:
        """Return the decoded values of a Secret."""
        data = self.api.get(path("Secret", self.namespace, name)).get("data", {})
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def converse(self, text: str = "Hola", sender: str = "34600111222") -> str:
        """Write as a customer and return the text of the answer that reached the provider."""
        provider = ProviderClient(self.api, self.namespace)
        before = len([each for each in provider.messages() if each["to"] == sender])
        provider.say(text, sender)
        answer: list[Object] = []

        def answered() -> bool:
            answer[:] = [each for each in provider.messages() if each["to"] == sender][before:]
            return bool(answer)

        self.wait(f"an answer to {text!r}", answered, 60)
        return str(answer[0]["body"]["text"]["body"])

    @contextmanager
    def steady_requests(self, target: str = "/readyz", pause: float = 0.04) -> Iterator[Probe]:
        """Send requests, each on a new connection, for the length of the block."""
        seen, stop = Probe(), threading.Event()
        address = self.address

        def send() -> None:
            while not stop.is_set():
                connection = http.client.HTTPConnection(address, APP_PORT, timeout=10)
                try:
                    connection.request("GET", target)
                    status = connection.getresponse().status
                    if status != http.client.OK:
                        seen.failures.append(f"status {status}")
                except OSError as error:
                    seen.failures.append(repr(error))
                finally:
                    connection.close()
                seen.sent += 1
                stop.wait(pause)

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        try:
            yield seen
        finally:
            stop.set()
            thread.join(timeout=15)


def apply_instance(cluster: Cluster, namespace: str, name: str, spec: Object) -> Site:
    """Apply a small instance with the runtime's own image; `spec` wins."""
    site = Site(cluster, namespace, name)
    release = {"version": "0.1.0", "image": IMAGE, "tagPolicy": "Allow"}
    manifest = {
        "apiVersion": "chatbotops.io/v1alpha1",
        "kind": "ChatbotInstance",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"release": release, **spec},
    }
    site.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    return site


class Admin:
    """A logged-in administrator."""

    def __init__(self, site: Site) -> None:
        self._site = site
        reference = str(site.instance()["status"]["endpoints"]["adminPasswordSecret"])
        name, _, key = reference.partition("/")
        body = json.dumps({"username": "admin", "password": site.secret(name)[key]}).encode()
        connection = http.client.HTTPConnection(site.address, APP_PORT, timeout=10)
        connection.request("POST", "/api/auth/login", body, {"Content-Type": "application/json", "Origin": self._origin})
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == http.client.OK, content
        self._cookie = str(answer.headers["Set-Cookie"]).partition(";")[0]
        self._csrf = json.loads(content)["csrfToken"]
        connection.close()

    @property
    def _origin(self) -> str:
        return f"http://{self._site.address}:{APP_PORT}"

    def call(self, method: str, target: str, body: Object | None = None, **headers: str) -> tuple[int, Any]:
        """Make an API request with session and CSRF token."""
        sent = {"Cookie": self._cookie, "X-CSRF-Token": self._csrf, "Origin": self._origin, "Content-Type": "application/json", **headers}
        status, content = self._site.http(method, target, None if body is None else json.dumps(body).encode(), sent)
        return status, json.loads(content) if content else None
