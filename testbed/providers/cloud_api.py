"""A local WhatsApp Cloud API: takes sends, errs and limits as told, signs and delivers webhooks, records everything.

Besides aiohttp it needs only its neighbour `cloud_wire`, so that it also runs from a ConfigMap in the runtime image.

    POST /{version}/{phone_number_id}/messages    the provider's own API
    POST /_control/webhook       {"url", "app_secret"?, "phone_number_id"?}: where events go, the key that signs them
    POST /_control/subscribe     {"verify_token"}: the GET handshake of the webhook -> {"verified": bool}
    POST /_control/script        {"rules": [Rule, ...]}: replaces the script; the first rule that matches a send decides it
    POST /_control/inbound       {"from", "text", "id"?, "name"?, "copies"?} -> {"id", "delivered"}
    GET  /_control/messages      accepted sends, oldest first; ?to= filters
    GET  /_control/requests      every send, with its HTTP status (0: the connection was dropped)
    GET  /_control/deliveries    every webhook attempt
    POST /_control/reset         forget script and records
"""

import argparse
import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

import aiohttp
from aiohttp import web

from testbed.providers.cloud_wire import (
    ERRORS,
    Json,
    find_refusal,
    make_wamid,
    render_error,
    render_event,
    render_status,
    render_text,
    timestamp,
)

_RETRY_SECONDS = (0.2, 0.4, 0.8, 1.6, 3.2, 5.0)


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens to a send. Unset fields are those of a healthy provider.

    Attributes:
        outcome: `accept`; `error` answers with `code`; `drop` cuts the connection; `hang` does not answer for `hang_seconds`.
        accepted: for drop and hang: whether the message was taken before the connection was lost.
        statuses: webhooks that follow an accepted send; `failed` carries `code`.
        copies: how many times each status is delivered.
        reorder: deliver the statuses last to first.
        to: only sends to this recipient; empty matches all.
        times: how many sends the rule decides before it is spent; 0 never ends.
    """

    outcome: str = "accept"
    code: int = 131000
    retry_after: int = 0
    latency_ms: int = 0
    hang_seconds: float = 60.0
    accepted: bool = True
    statuses: tuple[str, ...] = ("sent", "delivered", "read")
    copies: int = 1
    reorder: bool = False
    to: str = ""
    times: int = 0

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """Return a rule from its JSON form.

        Raises:
            ValueError: a field or value is unknown; a script that does nothing must not pass in silence.
        """
        try:
            rule = cls(**{**data, "statuses": tuple(data.get("statuses", cls.__dataclass_fields__["statuses"].default))})
        except TypeError as error:
            raise ValueError(str(error)) from error
        if rule.outcome not in ("accept", "error", "drop", "hang"):
            raise ValueError(f"unknown outcome {rule.outcome}")
        if rule.code not in ERRORS:
            raise ValueError(f"unknown code {rule.code}")
        return rule


@dataclass(slots=True)
class Config:
    """Credentials and limits. `rate`: messages a second and number; `pair_interval_s`: between sends to one recipient; 0: no limit."""

    access_token: str
    app_secret: str
    webhook_url: str = ""
    display_phone_number: str = "15550783881"
    rate: float = 80.0
    pair_interval_s: float = 0.0
    status_delay_s: float = 0.02


@dataclass(slots=True)
class Records:
    """All that happened, oldest first."""

    messages: list[Json] = field(default_factory=list)
    requests: list[Json] = field(default_factory=list)
    deliveries: list[Json] = field(default_factory=list)


class Provider:
    """The provider. `async with Provider(config) as provider:` serves it on a free port at `provider.url`."""

    def __init__(self, config: Config, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.config = config
        self.records = Records()
        self.url = ""
        self._address = (host, port)
        self._rules: list[Rule] = []
        self._spent: dict[int, int] = {}
        self._allowance: dict[str, tuple[float, float]] = {}
        self._last_to: dict[tuple[str, str], float] = {}
        self._phone_number_id = "100000000000001"
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None
        self._client: aiohttp.ClientSession | None = None

    # -- life

    async def start(self) -> None:
        """Listen."""
        self._client = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
        self._runner = web.AppRunner(self.app(), access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, *self._address)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://{self._address[0]}:{port}"

    async def stop(self) -> None:
        """Stop listening and give up webhooks that nobody took."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
        if self._client is not None:
            await self._client.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def app(self) -> web.Application:
        """Return the aiohttp application."""
        app = web.Application(client_max_size=1 << 20)
        app.add_routes(
            [
                web.post(r"/{version:v\d+\.\d+}/{phone_number_id:\d+}/messages", self._send),
                web.post("/_control/webhook", _control(self._set_webhook)),
                web.post("/_control/subscribe", _control(self._subscribe)),
                web.post("/_control/script", _control(self._set_script)),
                web.post("/_control/inbound", _control(self._inbound)),
                web.post("/_control/reset", _control(self._reset)),
                web.get("/_control/{records:messages|requests|deliveries}", self._list),
            ]
        )
        return app

    # -- what tests say

    def script(self, *rules: Rule) -> None:
        """Replace the script."""
        self._rules = list(rules)
        self._spent = {}

    async def receive(self, sender: str, text: str, *, message_id: str = "", name: str = "Ana", copies: int = 1) -> tuple[str, bool]:
        """Deliver a person's text as a webhook; return its id and whether every copy was answered with 200."""
        message_id = message_id or make_wamid(sender)
        event = self._event(render_text(sender, text, message_id=message_id, name=name))
        taken = [await self.deliver(event) for _ in range(copies)]
        return message_id, all(taken)

    async def deliver(self, event: Json) -> bool:
        """Sign and deliver one webhook body, again after each failure as the provider does; return whether it was taken."""
        body = json.dumps(event, separators=(",", ":")).encode()
        for pause in (*_RETRY_SECONDS, None):
            status = await self._post(body)
            self.records.deliveries.append({"url": self.config.webhook_url, "status": status, "event": event})
            if status == 200:
                return True
            if pause is not None:
                await asyncio.sleep(pause)
        return False

    # -- the provider's API

    async def _send(self, request: web.Request) -> web.StreamResponse:
        number = request.match_info["phone_number_id"]
        raw = await request.read()
        entry: Json = {"phone_number_id": number, "status": 0, "code": None, "body": None}
        self.records.requests.append(entry)
        response = await self._decide(request, number, raw, entry)
        if response is None:
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        entry["status"] = response.status
        return response

    async def _decide(self, request: web.Request, number: str, raw: bytes, entry: Json) -> web.Response | None:
        """Return the answer to a send, or None to cut the connection."""
        if not hmac.compare_digest(request.headers.get("Authorization", "").encode(), f"Bearer {self.config.access_token}".encode()):
            return _error(190, entry, details="Error validating access token: the session is invalid.")
        try:
            body = json.loads(raw)
        except ValueError:
            return _error(100, entry, details="The body is not JSON.")
        entry["body"] = body
        if (refusal := find_refusal(body)) is not None:
            return _error(refusal[0], entry, details=refusal[1])
        if body.get("status") == "read":
            return web.json_response({"success": True})
        rule = self._match(body["to"])
        if rule.latency_ms:
            await asyncio.sleep(rule.latency_ms / 1000)
        if rule.outcome == "error":
            return _error(rule.code, entry, retry_after=rule.retry_after)
        if rule.outcome == "accept" and (limited := self._limit(number, body["to"])) is not None:
            return _error(limited, entry)
        wamid = self._accept(number, body, rule) if rule.accepted else ""
        if rule.outcome == "hang":
            await asyncio.sleep(rule.hang_seconds)
        if rule.outcome != "accept":
            return None
        return web.json_response(
            {
                "messaging_product": "whatsapp",
                "contacts": [{"input": body["to"], "wa_id": body["to"].lstrip("+")}],
                "messages": [{"id": wamid}],
            }
        )

    def _match(self, recipient: str) -> Rule:
        for index, rule in enumerate(self._rules):
            used = self._spent.get(index, 0)
            if rule.to in ("", recipient) and (rule.times == 0 or used < rule.times):
                self._spent[index] = used + 1
                return rule
        return Rule()

    def _limit(self, number: str, recipient: str) -> int | None:
        """Return the code of the limit that a send breaks, or None; a refused send uses nothing up."""
        now = time.monotonic()
        last = self._last_to.get((number, recipient))
        if self.config.pair_interval_s and last is not None and now - last < self.config.pair_interval_s:
            return 131056
        if self.config.rate:
            tokens, since = self._allowance.get(number, (self.config.rate, now))
            tokens = min(self.config.rate, tokens + (now - since) * self.config.rate)
            self._allowance[number] = (max(0.0, tokens - 1), now) if tokens >= 1 else (tokens, now)
            if tokens < 1:
                return 130429
        self._last_to[number, recipient] = now
        return None

    def _accept(self, number: str, body: Json, rule: Rule) -> str:
        wamid = make_wamid(body["to"])
        self._phone_number_id = number
        self.records.messages.append({"id": wamid, "phone_number_id": number, "to": body["to"], "timestamp": timestamp(), "body": body})
        if self.config.webhook_url:
            self._spawn(self._report(wamid, body, rule))
        return wamid

    async def _report(self, wamid: str, body: Json, rule: Rule) -> None:
        """Deliver the statuses of a send. Each is on its own: a status nobody takes does not hold up the next."""
        for status in reversed(rule.statuses) if rule.reorder else rule.statuses:
            await asyncio.sleep(self.config.status_delay_s)
            event = self._event({"statuses": [render_status(wamid, body, status, rule.code)]})
            for _ in range(rule.copies):
                self._spawn(self._deliver(event))

    async def _deliver(self, event: Json) -> None:
        await self.deliver(event)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _post(self, body: bytes) -> int:
        signature = hmac.new(self.config.app_secret.encode(), body, hashlib.sha256).hexdigest()
        headers = {"Content-Type": "application/json", "X-Hub-Signature-256": f"sha256={signature}", "User-Agent": "facebookexternalua"}
        assert self._client is not None  # noqa: S101  narrows the type: start() made it
        try:
            async with self._client.post(self.config.webhook_url, data=body, headers=headers) as response:
                await response.read()
                return response.status
        except (aiohttp.ClientError, TimeoutError):
            return 0

    def _event(self, value: Json) -> Json:
        return render_event(self._phone_number_id, self.config.display_phone_number, value)

    # -- the control API

    async def _set_webhook(self, data: Json) -> Json:
        self.config.webhook_url = data["url"]
        self.config.app_secret = data.get("app_secret", self.config.app_secret)
        self._phone_number_id = data.get("phone_number_id", self._phone_number_id)
        return {}

    async def _subscribe(self, data: Json) -> Json:
        challenge = str(secrets.randbelow(10**10))
        query = {"hub.mode": "subscribe", "hub.verify_token": data["verify_token"], "hub.challenge": challenge}
        assert self._client is not None  # noqa: S101  narrows the type: start() made it
        async with self._client.get(self.config.webhook_url, params=query) as response:
            return {"verified": response.status == 200 and await response.text() == challenge}

    async def _set_script(self, data: Json) -> Json:
        self.script(*(Rule.from_json(rule) for rule in data["rules"]))
        return {"rules": [asdict(rule) for rule in self._rules]}

    async def _inbound(self, data: Json) -> Json:
        wamid, delivered = await self.receive(
            data["from"], data["text"], message_id=data.get("id", ""), name=data.get("name", "Ana"), copies=data.get("copies", 1)
        )
        return {"id": wamid, "delivered": delivered}

    async def _reset(self, _: Json) -> Json:
        self.script()
        self.records = Records()
        self._allowance.clear()
        self._last_to.clear()
        return {}

    async def _list(self, request: web.Request) -> web.Response:
        recipient = request.query.get("to")
        rows: list[Json] = getattr(self.records, request.match_info["records"])
        return web.json_response([row for row in rows if recipient in (None, row.get("to"))])


def _error(code: int, entry: Json, *, details: str = "", retry_after: int = 0) -> web.Response:
    entry["code"] = code
    headers = {"Retry-After": str(retry_after)} if retry_after else None
    return web.json_response(render_error(code, details), status=ERRORS[code][0], headers=headers)


def _control(action: Callable[[Json], Awaitable[Json]]) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return a handler that answers a bad command with 400 and the reason, never with silence."""

    async def handle(request: web.Request) -> web.Response:
        try:
            return web.json_response(await action(await request.json() if request.can_read_body else {}))
        except (KeyError, ValueError, TypeError) as error:
            return web.json_response({"error": f"{type(error).__name__}: {error}"}, status=400)

    return handle


def _secret(name: str) -> str:
    path = os.environ.get(f"{name}_FILE")
    return Path(path).read_text().strip() if path else os.environ.get(name, "")


def main() -> None:
    """Serve until stopped. Secrets come from PROVIDER_ACCESS_TOKEN and PROVIDER_APP_SECRET, or files named by `..._FILE`."""
    parser = argparse.ArgumentParser(description="A local WhatsApp Cloud API.", epilog=main.__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8088)
    parser.add_argument("--webhook-url", default="", help="where events are delivered, such as http://app:8003/webhooks/cloud")
    parser.add_argument("--rate", type=float, default=80.0, help="messages a second and number before 130429; 0 is no limit")
    parser.add_argument(
        "--pair-interval", type=float, default=0.0, help="seconds between sends to one recipient before 131056; 0 is no limit"
    )
    options = parser.parse_args()
    token, secret = _secret("PROVIDER_ACCESS_TOKEN"), _secret("PROVIDER_APP_SECRET")
    if not token or not secret:
        parser.error("PROVIDER_ACCESS_TOKEN and PROVIDER_APP_SECRET (or their _FILE) are required")
    config = Config(token, secret, options.webhook_url, rate=options.rate, pair_interval_s=options.pair_interval)

    async def serve() -> None:
        async with Provider(config, host=options.host, port=options.port) as provider:
            print(f"serving on {provider.url}", flush=True)
            await asyncio.Event().wait()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve())


if __name__ == "__main__":
    main()
