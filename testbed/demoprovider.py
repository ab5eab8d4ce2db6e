"""The demo's WhatsApp provider: `testbed/providers` in a pod of the runtime's image, and the few things the demo says to it."""

import http.client
import json
import time
from pathlib import Path
from typing import Any, Final

from testbed.api import Api
from testbed.errors import Failed

NAME: Final = "whatsapp-provider"
PORT: Final = 8088
CUSTOMER: Final = "34600111222"
_SOURCES: Final = ("__init__.py", "cloud_api.py", "cloud_wire.py")
_CODE: Final = "/opt/provider/testbed/providers"
_SECRETS: Final = "/run/secrets/provider"

Object = dict[str, Any]


def render_provider(namespace: str, image: str, secret: str, webhook_url: str) -> list[tuple[str, Object]]:
    """Return API paths and objects: the code as a ConfigMap, a Deployment that satisfies Pod Security `restricted`, a Service.

    Args:
        namespace: of the chatbot.
        image: the runtime's, for its Python and aiohttp.
        secret: Secret with `access-token` and `app-secret`, the same that the chatbot reads.
        webhook_url: where events are delivered.
    """
    folder = Path(__file__).parent / "providers"
    code = {name: (folder / name).read_text() for name in _SOURCES}
    labels = {"app.kubernetes.io/name": NAME}
    metadata = {"name": NAME, "namespace": namespace, "labels": labels}
    pod = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 2,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [_container(image, webhook_url)],
        "volumes": [{"name": "code", "configMap": {"name": NAME}}, {"name": "secret", "secret": {"secretName": secret}}],
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"selector": labels, "ports": [{"name": "http", "port": PORT, "protocol": "TCP", "targetPort": "http"}]},
    }
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": code}
    core = f"/api/v1/namespaces/{namespace}"
    return [
        (f"{core}/configmaps/{NAME}", config),
        (f"/apis/apps/v1/namespaces/{namespace}/deployments/{NAME}", deployment),
        (f"{core}/services/{NAME}", service),
    ]


def _container(image: str, webhook_url: str) -> Object:
    return {
        "name": "provider",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", "testbed.providers.cloud_api", "--host", "0.0.0.0", "--port", str(PORT), "--webhook-url", webhook_url],  # noqa: S104  a pod serves its own network
        "env": [
            {"name": "PYTHONPATH", "value": _CODE.removesuffix("/testbed/providers")},
            {"name": "PROVIDER_ACCESS_TOKEN_FILE", "value": f"{_SECRETS}/access-token"},
            {"name": "PROVIDER_APP_SECRET_FILE", "value": f"{_SECRETS}/app-secret"},
        ],
        "ports": [{"name": "http", "containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/_control/messages", "port": "http"}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": "code", "mountPath": _CODE, "readOnly": True},
            {"name": "secret", "mountPath": _SECRETS, "readOnly": True},
        ],
    }


def is_ready(api: Api, namespace: str) -> bool:
    """Whether the provider's pod of the current Deployment is ready."""
    deployment = api.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{NAME}")
    status = deployment.get("status", {})
    current = status.get("observedGeneration") == deployment["metadata"]["generation"]
    return bool(current and status.get("updatedReplicas") == status.get("availableReplicas") == 1)


class ProviderClient:
    """Talks to the provider's control API."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._host: str = api.get(f"/api/v1/namespaces/{namespace}/services/{NAME}")["spec"]["clusterIP"]

    def say(self, text: str, sender: str = CUSTOMER) -> None:
        """Deliver a person's text to the chatbot as a signed webhook.

        Raises:
            Failed: the chatbot did not take it.
        """
        answer = self._call("POST", "/_control/inbound", {"from": sender, "text": text})
        if not answer["delivered"]:
            raise Failed(f"The chatbot did not take the webhook: {self._call('GET', '/_control/deliveries')[-1]}")

    def messages(self) -> list[Object]:
        """Return what the chatbot sent, oldest first."""
        found: list[Object] = self._call("GET", "/_control/messages")
        return found

    def wait_answer(self, already: int, seconds: float) -> Object:
        """Wait for one more message than `already` and return it.

        Raises:
            Failed: none came in time.
        """
        deadline = time.monotonic() + seconds
        while len(messages := self.messages()) <= already:
            if time.monotonic() > deadline:
                requests = self._call("GET", "/_control/requests")
                raise Failed(f"No answer reached the provider in {seconds:.0f} s; sends it saw: {requests[-3:] or 'none'}")
            time.sleep(0.1)
        return messages[already]

    def _call(self, method: str, path: str, body: Object | None = None) -> Any:
        connection = http.client.HTTPConnection(self._host, PORT, timeout=60)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            data = response.read()
        except OSError as error:
            raise Failed(f"The provider does not answer: {error}") from None
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise Failed(f"The provider answered {response.status}: {data.decode(errors='replace')[:300]}")
        return json.loads(data)
