"""A reverse proxy between the operator and a real API server that injects faults at chosen requests.

It terminates TLS with a certificate of its own and passes the caller's bearer token on, so that RBAC and the audit log see
the operator itself. Faults: a callback before or after the k-th mutating request (to kill the caller there), silence on
watches, no connections at all, and refused tokens. Method after Sieve (OSDI'22): intermediate, stale and unobserved state.

It serves from a thread of its own, so that a test which waits without asyncio does not stop it. Faults may be changed from any thread.
"""

import asyncio
import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

MUTATING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_HOP_HEADERS = frozenset({"host", "connection", "keep-alive", "transfer-encoding", "content-length", "upgrade"})
_NOTICE_SECONDS = 0.05
"""How soon an open stream notices a changed fault."""

Hook = Callable[[], None]
_SESSION = web.AppKey("session", aiohttp.ClientSession)


@dataclass
class Faults:
    """What the proxy does wrong just now; change it at any time."""

    kill_at: int = 0
    """Number of the mutating request (from 1) at which `on_kill` is called; 0 is never."""
    kill_after: bool = False
    """Call `on_kill` after the API server has answered but before the caller hears of it."""
    on_kill: Hook | None = None
    """Called in the proxy's thread; it should only send a signal."""
    away: bool = False
    """Every request fails as if nobody listened, and open streams break."""
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
    watches_flow: threading.Event = field(default_factory=threading.Event)
    """Clear it and watches stay open and silent."""

    def __post_init__(self) -> None:
        self.watches_flow.set()

    @property
    def ca_file(self) -> Path:
        """Certificate that signs the proxy's own."""
        return self.directory / "proxy.crt"

    @contextlib.contextmanager
    def running(self) -> Iterator["FaultProxy"]:
        """Run the proxy until the block ends."""
        self.directory.mkdir(parents=True, exist_ok=True)
        _write_certificate(self.directory)
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="faultproxy", daemon=True)
        thread.start()
        ready, stop = threading.Event(), asyncio.Event()
        served = asyncio.run_coroutine_threadsafe(self._serve(listener, ready, stop), loop)
        try:
            if not ready.wait(10):
                served.result(0)
            yield self
        finally:
            loop.call_soon_threadsafe(stop.set)
            served.result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator["FaultProxy"]:
        """Do the same for an `async with`."""
        with self.running():
            yield self

    async def _serve(self, listener: socket.socket, ready: threading.Event, stop: asyncio.Event) -> None:
        server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server_tls.load_cert_chain(self.directory / "proxy.crt", self.directory / "proxy.key")
        client_tls = ssl.create_default_context(cafile=str(self.upstream_ca))
        connector = aiohttp.TCPConnector(ssl=client_tls, limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False, skip_auto_headers=["Accept-Encoding"]) as session:
            app = web.Application(client_max_size=8 << 20)
            app[_SESSION] = session
            app.router.add_route("*", "/{path:.*}", self._handle)
            runner = web.AppRunner(app, shutdown_timeout=0.2, handler_cancellation=True)
            await runner.setup()
            await web.SockSite(runner, listener, ssl_context=server_tls).start()
            ready.set()
            await stop.wait()
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
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_HEADERS}
        body = await request.read()
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        async with request.app[_SESSION].request(
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
            await self._stream(request, upstream.content, response)
            await response.write_eof()
            return response

    async def _stream(self, request: web.Request, source: aiohttp.StreamReader, response: web.StreamResponse) -> None:
        watching = "watch" in request.query
        held = b""  # silence that begins while a chunk is read holds that chunk back too
        while True:
            if self.faults.away:
                _drop(request)
                raise ConnectionResetError
            if watching and not self.watches_flow.is_set():
                await asyncio.sleep(_NOTICE_SECONDS)
                continue
            if held:
                await response.write(held)
                held = b""
            try:
                held = await asyncio.wait_for(source.readany(), _NOTICE_SECONDS if watching else None)
            except TimeoutError:
                continue
            if not held:
                return

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
