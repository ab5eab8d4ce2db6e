"""A reverse proxy between the operator and a real API server that injects faults at chosen requests.

It terminates TLS with a certificate of its own and passes the caller's bearer token on, so that RBAC and the audit log see
the operator itself. Faults: a callback before or after the k-th mutating request (to kill the caller there), silence on
watches, no connections at all, and refused tokens. Method after Sieve (OSDI'22): intermediate, stale and unobserved state.
"""

import asyncio
import contextlib
import datetime
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

MUTATING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_HOP_HEADERS = frozenset({"host", "connection", "keep-alive", "transfer-encoding", "content-length", "accept-encoding", "upgrade"})

Hook = Callable[[], None]


@dataclass
class Faults:
    """What the proxy does wrong just now; change it at any time."""

    kill_at: int = 0
    """Number of the mutating request (from 1) at which `on_kill` is called; 0 is never."""
    kill_after: bool = False
    """Call `on_kill` after the API server has answered but before the caller hears of it."""
    on_kill: Hook | None = None
    away: bool = False
    """Every request fails as if nobody listened."""
    unauthorized: bool = False
    """Every request is answered 401, as with an expired token."""


@dataclass
class FaultProxy:
    """Serves on loopback; `url` and `ca_file` go into the caller's kubeconfig."""

    upstream: str
    upstream_ca: Path
    directory: Path
    faults: Faults = field(default_factory=Faults)
    mutations: list[str] = field(default_factory=list)
    url: str = ""
    watches_flow: asyncio.Event = field(default_factory=asyncio.Event)
    """Clear it and watches stay open and silent."""

    def __post_init__(self) -> None:
        self.watches_flow.set()

    @property
    def ca_file(self) -> Path:
        """Certificate that signs the proxy's own."""
        return self.directory / "proxy.crt"

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator["FaultProxy"]:
        """Run the proxy until the block ends."""
        self.directory.mkdir(parents=True, exist_ok=True)
        _write_certificate(self.directory)
        server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server_tls.load_cert_chain(self.directory / "proxy.crt", self.directory / "proxy.key")
        client_tls = ssl.create_default_context(cafile=str(self.upstream_ca))
        connector = aiohttp.TCPConnector(ssl=client_tls, limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
            app = web.Application(client_max_size=8 << 20)
            app["session"] = session
            app.router.add_route("*", "/{path:.*}", self._handle)
            runner = web.AppRunner(app, shutdown_timeout=0.2)
            await runner.setup()
            listener = socket.create_server(("127.0.0.1", 0))
            await web.SockSite(runner, listener, ssl_context=server_tls).start()
            self.url = f"https://127.0.0.1:{listener.getsockname()[1]}"
            try:
                yield self
            finally:
                await runner.cleanup()

    def reset(self) -> None:
        """Forget counted requests and all faults."""
        self.mutations.clear()
        self.faults = Faults()
        self.watches_flow.set()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if self.faults.away:
            _drop(request)
            raise ConnectionResetError
        if self.faults.unauthorized:
            return web.json_response(
                {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Unauthorized", "code": 401}, status=401
            )
        mine = 0
        if request.method in MUTATING and "/leases" not in request.path and not request.path.endswith("/events"):
            self.mutations.append(f"{request.method} {request.path}")
            mine = len(self.mutations)
        if mine and mine == self.faults.kill_at and not self.faults.kill_after:
            self._kill(request)
        return await self._forward(request, mine)

    async def _forward(self, request: web.Request, mine: int) -> web.StreamResponse:
        session: aiohttp.ClientSession = request.app["session"]
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_HEADERS}
        body = await request.read()
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        async with session.request(
            request.method, self.upstream + request.path_qs, headers=headers, data=body or None, timeout=timeout
        ) as upstream:
            if mine and mine == self.faults.kill_at and self.faults.kill_after:
                await upstream.read()
                self._kill(request)
            response = web.StreamResponse(status=upstream.status)
            for name, value in upstream.headers.items():
                if name.lower() not in _HOP_HEADERS:
                    response.headers[name] = value
            await response.prepare(request)
            watching = "watch" in request.query
            async for chunk in upstream.content.iter_any():
                if watching:
                    await self.watches_flow.wait()
                if self.faults.away:
                    _drop(request)
                    raise ConnectionResetError
                await response.write(chunk)
            await response.write_eof()
            return response

    def _kill(self, request: web.Request) -> None:
        if self.faults.on_kill:
            self.faults.on_kill()
        _drop(request)
        raise ConnectionResetError


def _drop(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _write_certificate(directory: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "faultproxy")])
    now = datetime.datetime.now(datetime.UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    (directory / "proxy.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (directory / "proxy.key").write_bytes(pem)
