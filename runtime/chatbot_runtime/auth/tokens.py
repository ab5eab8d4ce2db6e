"""Random and signed tokens. Pure but for the randomness of `new_token`.

Cookies and tickets are random and stored only as hashes. What JWT_SECRET signs is derived from them and is short-lived: the CSRF token of a
session, and the tag of a ws-token. So a new JWT_SECRET logs nobody out; a page fetches a new CSRF token from `/api/auth/me`.
"""

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64encode

TOKEN_BYTES = 32


def new_token() -> str:
    """Return 256 random bits as URL-safe text."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def token_hash(token: str) -> bytes:
    """Return what the database stores: SHA-256, which is enough for 256 random bits."""
    return hashlib.sha256(token.encode()).digest()


class Signer:
    """Signs with JWT_SECRET. Each purpose has a signature of its own, so one kind of token never passes as another."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    def keyed_hash(self, purpose: str, text: str) -> bytes:
        """Return 32 bytes that reveal nothing about the text without the key."""
        return hmac.digest(self._key, f"{purpose}\0{text}".encode(), "sha256")

    def csrf_token(self, session_hash: bytes) -> str:
        """Return the CSRF token of a session."""
        return _text(self.keyed_hash("csrf", session_hash.hex()))

    def csrf_matches(self, session_hash: bytes, presented: str) -> bool:
        """Compare a presented CSRF token in constant time."""
        return hmac.compare_digest(self.csrf_token(session_hash).encode(), presented.encode())

    def sign(self, purpose: str, token: str) -> str:
        """Return `token.signature`."""
        return f"{token}.{_text(self.keyed_hash(purpose, token))}"

    def unsign(self, purpose: str, signed: str) -> str | None:
        """Return the token inside, or None if the signature is not ours: forged tickets cost no database query."""
        token, _, _ = signed.rpartition(".")
        return token if token and hmac.compare_digest(self.sign(purpose, token).encode(), signed.encode()) else None


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
