"""Who we are to the API server: address, TLS and bearer token, from the pod's service account or a kubeconfig."""

import os
import ssl
from pathlib import Path
from typing import Final

import yaml
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from chatbot_operator.errors import ConfigError

_TOKEN: Final = "BearerToken"  # noqa: S105 a key of the library's configuration, not a token


class Credentials:
    """Credentials that follow rotation: projected tokens are read again each minute, everything else on `reload()`."""

    def __init__(self) -> None:
        self._configuration = Configuration()
        self._tls: ssl.SSLContext | None = None
        named = os.environ.get("KUBECONFIG", "")
        inside = "KUBERNETES_SERVICE_HOST" in os.environ
        self._file = named or ("" if inside else str(Path.home() / ".kube" / "config"))
        """Kubeconfig, or empty for the pod's service account."""

    @classmethod
    async def load(cls) -> "Credentials":
        """Read credentials: `KUBECONFIG` if set, else the pod's service account, else `~/.kube/config`.

        Raises:
            ConfigError: None of them is usable.
        """
        credentials = cls()
        await credentials.reload()
        return credentials

    async def reload(self) -> None:
        """Read everything again, for example after a 401 or when the server's certificate no longer verifies.

        Raises:
            ConfigError: The files are missing or unusable.
        """
        configuration = Configuration()
        try:
            if self._file:
                await load_kube_config(config_file=self._file, client_configuration=configuration, persist_config=False)  # type: ignore[no-untyped-call]
            else:
                load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            tls = _tls_of(configuration)
        except (ConfigException, OSError, yaml.YAMLError) as error:
            raise ConfigError(f"No usable credentials for the Kubernetes API: {error}") from None
        self._configuration = configuration
        self._tls = tls

    @property
    def host(self) -> str:
        """Return the base URL without a trailing slash."""
        return str(self._configuration.host).rstrip("/")

    @property
    def tls(self) -> ssl.SSLContext | bool:
        """Return what aiohttp wants as `ssl`: a context, or True for a plain http address."""
        return self._tls if self._tls is not None else True

    @property
    def proxy(self) -> str | None:
        """Return the proxy of the kubeconfig, if any."""
        return self._configuration.proxy or None

    @property
    def server_name(self) -> str | None:
        """Return the name to verify in the server's certificate where it differs from the address."""
        return self._configuration.tls_server_name or None

    async def authorization(self) -> str | None:
        """Return the value of the Authorization header, or None with client certificates."""
        try:
            token = await self._configuration.get_api_key_with_prefix(_TOKEN)
        except (ConfigException, OSError):  # missing or empty just now: the server may still take the old one
            token = self._configuration.api_key.get(_TOKEN)
        return token.strip() if token else None


def _tls_of(configuration: Configuration) -> ssl.SSLContext | None:
    """Return the TLS context of a configuration, or None without TLS."""
    if not str(configuration.host).startswith("https"):
        return None
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    # Python 3.13 refuses authorities without every extension of RFC 5280, which several distributions issue. Trust and name stay verified.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, keyfile=configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
