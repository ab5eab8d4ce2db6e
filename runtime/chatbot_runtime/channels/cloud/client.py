"""Calls the Cloud API and says exactly what is known afterwards: accepted, refused, surely not sent, or unknown."""

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import aiohttp
import orjson

from chatbot_runtime.channels.cloud.errors import GraphError, classify
from chatbot_runtime.settings import Settings

CONNECT_TIMEOUT_S: Final = 5.0
TIMEOUT_S: Final = 20.0
"""Longest call; it must end well within a lane's lease."""

KEEP_ALIVE_S: Final = 10.0
"""We close idle connections early, so that no call meets one that the provider is just closing: its outcome would be unknown."""

ANSWER_MAX: Final = 65_536
"""Of a longer answer only the beginning is looked at, which is no JSON: what it says is then judged by its status alone."""

RETRY_AFTER_MAX_S: Final = 3600
NO_CODE: Final = -1
"""Instead of an error's code where the provider gave none that we could keep."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider took the message under this id."""

    provider_id: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """The provider answered with an error, so it did not take the message."""

    error: GraphError
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class NotSent:
    """The request did not reach the provider, or was turned away before it was looked at."""

    why: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """The request may have reached the provider and no usable answer came."""

    why: str


Answer = Accepted | Rejected | NotSent | Unknown


class CloudClient:
    """Sends text messages from one phone number. Redirects are not followed: the token would go to another host."""

    def __init__(self, settings: Settings) -> None:
        if settings.wa_phone_number_id is None or settings.wa_access_token is None:
            raise ValueError("load_settings(Role.SCHEDULER) lets no cloud channel start without number and token")
        self._url = f"{settings.wa_api_base.rstrip('/')}/{settings.wa_api_version}/{settings.wa_phone_number_id}/messages"
        self._token = settings.wa_access_token.get_secret_value()
        self._timeout = aiohttp.ClientTimeout(total=min(TIMEOUT_S, settings.lease_ttl_s / 2), connect=CONNECT_TIMEOUT_S)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()

    async def send_text(self, body: str, token: UUID, *, wa_id: str | None, bsuid: str | None) -> Answer:
        """Send a text.

        Args:
            body: 1 to 4096 characters.
            token: comes back in the message's statuses.
            wa_id: phone number in digits; preferred.
            bsuid: business-scoped user id, for a contact without a known number.
        """
        recipient = {"to": wa_id} if wa_id else {"recipient": bsuid}
        message = {
            "messaging_product": "whatsapp",
            "recipient_type": "individual",
            **recipient,
            "type": "text",
            "text": {"preview_url": False, "body": body},
            "biz_opaque_callback_data": str(token),
        }
        try:
            return await self._post(message)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return NotSent(f"the provider can't be reached ({type(error).__name__})")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Unknown(f"the connection failed during the call ({type(error).__name__})")

    async def _post(self, message: dict[str, Any]) -> Answer:
        session = self._open()
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        async with session.post(self._url, data=orjson.dumps(message), headers=headers, allow_redirects=False) as response:
            return read_answer(response.status, await _whole(response.content), response.headers.get("Retry-After"))

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=64, keepalive_timeout=KEEP_ALIVE_S)
            self._session = aiohttp.ClientSession(connector=connector, timeout=self._timeout)
        return self._session


async def _whole(content: aiohttp.StreamReader) -> bytes:
    """Read an answer to its end: a single read returns no more than what has arrived, and half an acceptance reads like none."""
    raw = bytearray()
    async for piece in content.iter_any():
        raw += piece
        if len(raw) > ANSWER_MAX:
            break
    return bytes(raw[:ANSWER_MAX])


def read_answer(status: int, raw: bytes, retry_after: str | None) -> Answer:
    """Understand an answer. Pure.

    A 2xx without an id, and a server error that does not come from the provider itself, may hide an accepted message. So may a bare 503: a
    proxy gives it also when the connection to what lies behind it broke after the request had passed. With Retry-After it is the answer of
    something that turned the request away before it looked at it.
    """
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError:
        document = None
    wait = _retry_after(retry_after)
    if 200 <= status < 300:
        provider_id = _provider_id(document)
        return Accepted(provider_id) if provider_id else Unknown(f"status {status} without a message id")
    error = document.get("error") if isinstance(document, dict) else None
    if isinstance(error, dict) and isinstance(error.get("code"), int):
        return Rejected(_error(error, status), wait)
    if (status == 503 and retry_after is not None) or 300 <= status < 400:
        return NotSent(f"turned away with status {status}", wait)
    if status >= 500:
        return Unknown(f"status {status} from something before the provider")
    return Rejected(classify(NO_CODE, status, f"status {status}"), wait)


def _error(error: dict[str, Any], status: int) -> GraphError:
    """Classify an error of the provider; a code that no column can hold is none."""
    code: int = error["code"]
    if abs(code) < 2**31:
        return classify(code, status, _text(error))
    return classify(NO_CODE, status, f"{_text(error)}, code {code}")


def _provider_id(document: Any) -> str | None:
    messages = document.get("messages") if isinstance(document, dict) else None
    first = messages[0] if isinstance(messages, list) and messages else None
    found = first.get("id") if isinstance(first, dict) else None
    return found if isinstance(found, str) and 0 < len(found) <= 512 and "\0" not in found else None


def _text(error: dict[str, Any]) -> str:
    details = error.get("error_data")
    found = details.get("details") if isinstance(details, dict) else None
    return str(found or error.get("message") or "no message")[:500].replace("\0", "\ufffd")  # PostgreSQL has no NUL


def _retry_after(value: str | None) -> float | None:
    return min(float(value), RETRY_AFTER_MAX_S) if value is not None and value.isdecimal() else None
