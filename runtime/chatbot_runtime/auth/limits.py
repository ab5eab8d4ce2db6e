"""Login limits in PostgreSQL: a delay that grows with failures, per account and per address, and never locks anyone out for good.

A try is charged before the password is checked, by one atomic statement, so that many parallel guesses can't slip through together. All
transactions take the address before the account, so that none waits for another in a circle.
"""

from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from chatbot_runtime.auth.tokens import Signer
from chatbot_runtime.db.schema_auth import login_attempts


@dataclass(frozen=True, slots=True)
class Limit:
    """`free` tries cost nothing, each further one doubles the delay from one second up to `longest` seconds."""

    kind: str
    free: int
    longest: int


ACCOUNT = Limit("account", free=5, longest=60)
"""Short, as anybody can fail in somebody else's name."""
ADDRESS = Limit("address", free=20, longest=900)
FORGET_AFTER = timedelta(hours=1)
"""Failures older than this no longer count."""


class LoginLimits:
    """Charges tries to an account and an address."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    async def charge(self, conn: AsyncConnection, account: str, address: str) -> int:
        """Charge one try: to the address, and if that may go on, to the account. So who is blocked can't block somebody else's name.

        Args:
            conn: a connection whose transaction is committed before the password is checked.
            account: case-folded name as typed, known or not.
            address: client address.

        Returns:
            0 when the try may go on, else the seconds to wait.
        """
        return await self._charge(conn, ADDRESS, address) or await self._charge(conn, ACCOUNT, account)

    async def succeeded(self, conn: AsyncConnection, account: str, address: str) -> None:
        """Take back what this try cost the address, and forget the account's failures; old rows are removed on the way."""
        attempts = login_attempts
        refund = {"failures": sa.func.greatest(attempts.c.failures - 1, 0), "blocked_until": sa.func.now()}
        await conn.execute(attempts.update().where(attempts.c.key == self._key(ADDRESS, address)).values(refund))
        await conn.execute(attempts.delete().where(attempts.c.key == self._key(ACCOUNT, account)))
        old = sa.select(attempts.c.key).where(attempts.c.last_at < sa.func.now() - FORGET_AFTER).with_for_update(skip_locked=True)
        await conn.execute(attempts.delete().where(attempts.c.key.in_(old)))

    def _key(self, limit: Limit, text: str) -> bytes:
        # A keyed hash: people type passwords into the name field, and addresses are personal data.
        return self._signer.keyed_hash(f"login-{limit.kind}", text)

    async def _charge(self, conn: AsyncConnection, limit: Limit, text: str) -> int:
        known = login_attempts.c
        failures = sa.case((known.last_at < sa.func.now() - FORGET_AFTER, 1), else_=known.failures + 1)
        over = failures - limit.free
        # The exponent is bounded as well, since 2 ** n of a patient attacker overflows.
        seconds = sa.case((over <= 0, 0), else_=sa.func.least(limit.longest, sa.func.power(2, sa.func.least(over - 1, 20))))
        statement = insert(login_attempts).values(
            key=self._key(limit, text), failures=1, last_at=sa.func.now(), blocked_until=sa.func.now()
        )
        charged = statement.on_conflict_do_update(
            index_elements=[known.key],
            set_={"failures": failures, "last_at": sa.func.now(), "blocked_until": sa.func.now() + seconds * timedelta(seconds=1)},
            where=known.blocked_until <= sa.func.now(),
        )
        if (await conn.execute(charged.returning(known.failures))).one_or_none() is not None:
            return 0
        left = sa.select(sa.func.ceil(sa.extract("epoch", known.blocked_until - sa.func.now()))).where(known.key == self._key(limit, text))
        return max(1, int((await conn.execute(left)).scalar_one()))
