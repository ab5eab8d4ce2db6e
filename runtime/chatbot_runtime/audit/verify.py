"""Checks the whole audit chain: every seal follows from its predecessor and its event, none is missing, no event hides outside."""

from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from chatbot_runtime.audit.chain import GENESIS, next_hash
from chatbot_runtime.db.schema_auth import audit_events, audit_seals

BATCH = 2_000
SEAL_WITHIN = timedelta(minutes=10)
"""An event unsealed for longer was hidden from the sealer, or the sealer does not run: both need a person."""


@dataclass(frozen=True, slots=True)
class Verification:
    """The result: `problem` is empty when the chain holds, else one sentence that names the first bad seal."""

    checked: int
    head: str
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether the chain holds."""
        return not self.problem


async def verify_chain(conn: AsyncConnection, *, anchor: tuple[int, str] | None = None) -> Verification:
    """Recompute the chain from its start.

    Args:
        conn: any connection that may read; a repeatable-read transaction is not needed, as sealed rows never change.
        anchor: a (seq, hash) that was noted outside the database, for example from the metric `audit_chain_head_info` or a log: an owner of
            the database could rewrite the whole chain, but not that.
    """
    seq, previous = 0, GENESIS
    while True:
        query = (
            sa.select(audit_seals.c.seq, audit_seals.c.hash, audit_events)
            .outerjoin(audit_events, audit_events.c.id == audit_seals.c.event_id)
            .where(audit_seals.c.seq > seq)
            .order_by(audit_seals.c.seq)
            .limit(BATCH)
        )
        rows = (await conn.execute(query)).mappings().all()
        if not rows:
            break
        for row in rows:
            if row["seq"] != seq + 1:
                return Verification(seq, previous.hex(), f"seal {seq + 1} is missing")
            if row["id"] is None or next_hash(previous, dict(row)) != row["hash"]:
                return Verification(seq, previous.hex(), f"seal {row['seq']} does not match its event")
            seq, previous = row["seq"], row["hash"]
            if anchor and anchor[0] == seq and anchor[1] != previous.hex():
                return Verification(seq, previous.hex(), f"seal {seq} differs from the hash noted outside the database")
    if anchor and anchor[0] > seq:
        return Verification(seq, previous.hex(), f"the chain ends at {seq}, before the noted seal {anchor[0]}")
    hidden = await _unsealed(conn)
    return Verification(seq, previous.hex(), f"{hidden} events are older than {SEAL_WITHIN} and not sealed" if hidden else "")


async def _unsealed(conn: AsyncConnection) -> int:
    """Count old events without a seal, from the events themselves and not from the sealer's list."""
    query = (
        sa.select(sa.func.count())
        .select_from(audit_events.outerjoin(audit_seals, audit_seals.c.event_id == audit_events.c.id))
        .where(audit_seals.c.seq.is_(None), audit_events.c.at < sa.func.now() - SEAL_WITHIN)
    )
    return int((await conn.execute(query)).scalar_one())
