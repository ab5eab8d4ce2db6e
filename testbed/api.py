"""A small synchronous client of the API server, for the test bed's own steps; it depends on nothing but the standard library and PyYAML."""

import base64
import http.client
import json
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import yaml

from testbed.errors import Failed
from testbed.settings import Settings

_APPLY: Final = "application/apply-patch+yaml"
_MERGE: Final = "application/merge-patch+json"

Object = dict[str, Any]


class ApiError(Failed):
    """The API server refused a request."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Api:
    """One connection; not for use by several threads."""

    def __init__(self, kubeconfig: Path, timeout: float = 10.0) -> None:
        content = yaml.safe_load(kubeconfig.read_text())
        cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
        self._target = urlsplit(cluster["server"])
        self._tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        with tempfile.NamedTemporaryFile() as pair:  # ssl loads client certificates from files only
            pair.write(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
            pair.flush()
            self._tls.load_cert_chain(pair.name)
        self._timeout = timeout
        self._connection: http.client.HTTPSConnection | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> "Api":
        """Connect as the administrator of a test bed."""
        return cls(settings.kubeconfig("admin"))

    def get(self, path: str, **query: str) -> Object:
        """GET an object or a list."""
        return self._json("GET", path, query)

    def text(self, path: str, **query: str) -> str:
        """GET what is no JSON, such as a pod's log."""
        return self._data("GET", path, query).decode(errors="replace")

    def create(self, path: str, body: Object) -> Object:
        """POST an object to its collection."""
        return self._json("POST", path, {}, body, "application/json")

    def apply(self, path: str, body: Object) -> Object:
        """Server-side apply, forced, with the field manager `testbed`."""
        return self._json("PATCH", path, {"fieldManager": "testbed", "force": "true"}, body, _APPLY)

    def patch(self, path: str, body: Object) -> Object:
        """JSON merge patch."""
        return self._json("PATCH", path, {}, body, _MERGE)

    def delete(self, path: str, **query: str) -> None:
        """DELETE; an object that is not there is fine."""
        try:
            self._json("DELETE", path, query)
        except ApiError as error:
            if error.status != http.client.NOT_FOUND:
                raise

    def exists(self, path: str) -> bool:
        """Whether a GET of the path finds something."""
        try:
            self.get(path)
        except ApiError as error:
            if error.status == http.client.NOT_FOUND:
                return False
            raise
        return True

    def ready(self) -> bool:
        """Whether `/readyz` answers 200; a refused connection is False."""
        try:
            return self._send("GET", "/readyz", None, None)[0] == http.client.OK
        except (OSError, http.client.HTTPException):
            return False

    def wait_ready(self, timeout: float) -> bool:
        """Poll `/readyz` until it answers 200."""
        deadline = time.monotonic() + timeout
        while not self.ready():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def watch(self, path: str, resource_version: str, query: dict[str, str] | None = None, seconds: int = 300) -> Iterator[Object]:
        """Yield watch events on a connection of its own until the server ends it after `seconds`."""
        connection = self._connect(seconds + 10.0)
        parameters = {"watch": "true", "resourceVersion": resource_version, "timeoutSeconds": str(seconds), "allowWatchBookmarks": "true"}
        try:
            connection.request("GET", f"{path}?{urlencode(parameters | (query or {}))}")
            response = connection.getresponse()
            if response.status != http.client.OK:
                raise ApiError(response.status, response.read().decode(errors="replace")[:500])
            for line in response:
                yield json.loads(line)
        finally:
            connection.close()

    def _json(self, method: str, path: str, query: dict[str, str], body: Object | None = None, content_type: str | None = None) -> Object:
        result: Object = json.loads(self._data(method, path, query, body, content_type))
        return result

    def _data(self, method: str, path: str, query: dict[str, str], body: Object | None = None, content_type: str | None = None) -> bytes:
        target = f"{path}?{urlencode(query)}" if query else path
        status, data = self._send(method, target, None if body is None else json.dumps(body).encode(), content_type)
        if status >= http.client.BAD_REQUEST:
            try:
                message = json.loads(data)["message"]
            except (ValueError, KeyError):
                message = data.decode(errors="replace")[:500]
            raise ApiError(status, message)
        return data

    def _send(self, method: str, target: str, body: bytes | None, content_type: str | None) -> tuple[int, bytes]:
        headers = {"Accept": "application/json"} | ({"Content-Type": content_type} if content_type else {})
        for attempt in (1, 2):
            fresh = self._connection is None
            self._connection = self._connection or self._connect(self._timeout)
            try:
                self._connection.request(method, target, body, headers)
                response = self._connection.getresponse()
                return response.status, response.read()
            except (OSError, http.client.HTTPException):
                self._connection.close()
                self._connection = None
                if fresh or attempt == 2:
                    raise
        raise AssertionError("unreachable")

    def _connect(self, timeout: float) -> http.client.HTTPSConnection:
        connection = http.client.HTTPSConnection(self._target.hostname or "", self._target.port, timeout=timeout, context=self._tls)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection
