"""An asynchronous client of the API server for tests: plain JSON, and waiting for conditions instead of sleeping.

It is not the operator's own client on purpose: a test must not share a mistake with what it tests.
"""

import asyncio
import base64
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
import yaml

Object = dict[str, Any]

RESOURCES: Final = {
    "ChatbotInstance": ("/apis/chatbotops.io/v1alpha1", "chatbotinstances"),
    "ChatbotBackup": ("/apis/chatbotops.io/v1alpha1", "chatbotbackups"),
    "ConfigMap": ("/api/v1", "configmaps"),
    "Event": ("/apis/events.k8s.io/v1", "events"),
    "Pod": ("/api/v1", "pods"),
    "Secret": ("/api/v1", "secrets"),
    "Service": ("/api/v1", "services"),
    "ServiceAccount": ("/api/v1", "serviceaccounts"),
    "PersistentVolumeClaim": ("/api/v1", "persistentvolumeclaims"),
    "Deployment": ("/apis/apps/v1", "deployments"),
    "ReplicaSet": ("/apis/apps/v1", "replicasets"),
    "StatefulSet": ("/apis/apps/v1", "statefulsets"),
    "Job": ("/apis/batch/v1", "jobs"),
    "Lease": ("/apis/coordination.k8s.io/v1", "leases"),
    "PodDisruptionBudget": ("/apis/policy/v1", "poddisruptionbudgets"),
    "HorizontalPodAutoscaler": ("/apis/autoscaling/v2", "horizontalpodautoscalers"),
    "NetworkPolicy": ("/apis/networking.k8s.io/v1", "networkpolicies"),
    "Role": ("/apis/rbac.authorization.k8s.io/v1", "roles"),
    "RoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "rolebindings"),
}
CLUSTER_RESOURCES: Final = {
    "Namespace": ("/api/v1", "namespaces"),
    "Node": ("/api/v1", "nodes"),
    "PersistentVolume": ("/api/v1", "persistentvolumes"),
    "StorageClass": ("/apis/storage.k8s.io/v1", "storageclasses"),
    "ClusterRole": ("/apis/rbac.authorization.k8s.io/v1", "clusterroles"),
    "ClusterRoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "clusterrolebindings"),
    "CustomResourceDefinition": ("/apis/apiextensions.k8s.io/v1", "customresourcedefinitions"),
}


class ApiError(Exception):
    """The API server refused; `status` is the HTTP code, `reason` the machine-readable word."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


def path(kind: str, namespace: str | None = None, name: str | None = None) -> str:
    """Return the path of an object, or of a collection without a name (of every namespace, without a namespace)."""
    if kind in CLUSTER_RESOURCES:
        root, plural = CLUSTER_RESOURCES[kind]
        base = f"{root}/{plural}"
    else:
        root, plural = RESOURCES[kind]
        base = f"{root}/namespaces/{namespace}/{plural}" if namespace else f"{root}/{plural}"
    return f"{base}/{name}" if name else base


def path_of(manifest: Object, namespace: str | None = None) -> str:
    """Return the path of a manifest; its own namespace wins."""
    metadata = manifest["metadata"]
    return path(manifest["kind"], metadata.get("namespace", namespace), metadata["name"])


class KubeApi:
    """Client of one user; open it with `async with KubeApi(kubeconfig) as api`."""

    def __init__(self, kubeconfig: Path) -> None:
        content = yaml.safe_load(kubeconfig.read_text())
        cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
        self._server: str = cluster["server"]
        self._tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        self._headers = {"Accept": "application/json"}
        if "token" in user:
            self._headers["Authorization"] = f"Bearer {user['token']}"
        else:
            with tempfile.NamedTemporaryFile() as pair:
                pair.write(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
                pair.flush()
                self._tls.load_cert_chain(pair.name)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=64)
        self._session = aiohttp.ClientSession(self._server, connector=connector, headers=self._headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def request(
        self, method: str, target: str, body: object = None, content_type: str = "application/json", **query: str
    ) -> tuple[int, Object]:
        """Send one request and return status and decoded answer, whatever the status; for tests of raw behaviour."""
        if self._session is None:
            raise RuntimeError("open the client with `async with`")
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": content_type} if data is not None else {}
        async with self._session.request(method, target, data=data, headers=headers, params=query) as response:
            text = await response.text()
            try:
                answer = json.loads(text)
            except ValueError:
                answer = {"message": text[:500]}
            return response.status, answer

    async def get(self, target: str, **query: str) -> Object:
        """GET an object or list."""
        return await self._checked("GET", target, **query)

    async def find(self, target: str) -> Object | None:
        """GET an object, None if there is none."""
        try:
            return await self.get(target)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def list(self, kind: str, namespace: str | None = None, selector: str = "") -> list[Object]:
        """Return the items of a collection."""
        query = {"labelSelector": selector} if selector else {}
        items: list[Object] = (await self.get(path(kind, namespace), **query))["items"]
        return items

    async def create(self, manifest: Object, namespace: str | None = None) -> Object:
        """POST a manifest."""
        target = path_of(manifest, namespace).rpartition("/")[0]
        return await self._checked("POST", target, manifest)

    async def apply(self, manifest: Object, namespace: str | None = None, manager: str = "test", *, force: bool = True) -> Object:
        """Server-side apply a manifest."""
        query = {"fieldManager": manager, "force": "true" if force else "false"}
        return await self._checked("PATCH", path_of(manifest, namespace), manifest, "application/apply-patch+yaml", **query)

    async def patch(self, target: str, body: Object, manager: str = "test") -> Object:
        """JSON merge patch; add `/status` or `/scale` to the path for a subresource."""
        return await self._checked("PATCH", target, body, "application/merge-patch+json", fieldManager=manager)

    async def json_patch(self, target: str, operations: Sequence[Object]) -> Object:
        """JSON patch (RFC 6902)."""
        return await self._checked("PATCH", target, operations, "application/json-patch+json")

    async def delete(self, target: str, **query: str) -> None:
        """DELETE; an object that is not there is fine."""
        status, answer = await self.request("DELETE", target, **query)
        if status >= 400 and status != 404:
            raise ApiError(status, answer.get("reason", ""), answer.get("message", ""))

    async def wait(self, target: str, condition: Callable[[Object], object], timeout: float = 30.0, what: str = "") -> Object:  # noqa: ASYNC109  a limit with a message of its own
        """Poll an object until the condition holds for it, and return it.

        Raises:
            AssertionError: Not within `timeout` seconds; the message shows the object as it last was.
        """
        last: Object | None = None
        deadline = asyncio.get_running_loop().time() + timeout
        while asyncio.get_running_loop().time() < deadline:
            last = await self.find(target)
            if last is not None and condition(last):
                return last
            await asyncio.sleep(0.05)
        shown = json.dumps({k: v for k, v in (last or {}).items() if k != "metadata"}, indent=1)[:4000]
        raise AssertionError(f"waited {timeout:g} s for {what or 'a condition'} of {target}; it was: {shown}")

    async def wait_gone(self, target: str, timeout: float = 30.0) -> None:  # noqa: ASYNC109  a limit with a message of its own
        """Poll until the object is gone."""
        deadline = asyncio.get_running_loop().time() + timeout
        while await self.find(target) is not None:
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError(f"{target} is still there after {timeout:g} s")
            await asyncio.sleep(0.05)

    async def watch(self, target: str, resource_version: str = "", seconds: int = 60, **query: str) -> AsyncIterator[Object]:
        """Yield watch events until the server ends the watch."""
        if self._session is None:
            raise RuntimeError("open the client with `async with`")
        parameters = {"watch": "true", "timeoutSeconds": str(seconds), "resourceVersion": resource_version} | query
        timeout = aiohttp.ClientTimeout(total=None)
        async with self._session.get(target, params=parameters, timeout=timeout) as response:
            async for line in response.content:
                yield json.loads(line)

    async def _checked(self, method: str, target: str, body: object = None, content_type: str = "application/json", **query: str) -> Object:
        status, answer = await self.request(method, target, body, content_type, **query)
        if status >= 400:
            raise ApiError(status, answer.get("reason", ""), answer.get("message", ""))
        return answer


def condition(instance: Object, kind: str) -> Object:
    """Return a condition of an object, an empty one if it is not there."""
    found: list[Object] = [each for each in instance.get("status", {}).get("conditions", []) if each["type"] == kind]
    return found[0] if found else {}
