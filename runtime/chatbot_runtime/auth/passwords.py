"""Passwords as argon2id hashes, computed off the event loop and few at a time."""

import asyncio
import secrets

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

MEMORY_KIB = 19 * 1024
"""OWASP's first choice with t=2, p=1: 20 ms here. The library's default of 64 MiB a login would kill a small pod."""

CONCURRENT = 4
"""Hashes computed at once, so logins can take at most 76 MiB."""


class Passwords:
    """Hashes and verifies passwords."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=MEMORY_KIB, parallelism=1, type=Type.ID)
        self._slots = asyncio.Semaphore(CONCURRENT)
        self._nobody = self._hasher.hash(secrets.token_urlsafe(24))

    async def hash(self, password: str) -> str:
        """Return a PHC string."""
        async with self._slots:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def verify(self, stored: str | None, password: str) -> bool:
        """Compare a password with a stored hash.

        Args:
            stored: PHC string; None for an unknown user, which takes as long as a known one and is False.
            password: as typed.
        """
        async with self._slots:
            matches = await asyncio.to_thread(self._matches, stored or self._nobody, password)
        return matches and stored is not None

    def needs_rehash(self, stored: str) -> bool:
        """Whether the hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)

    def _matches(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerifyMismatchError, VerificationError, InvalidHashError):
            return False
