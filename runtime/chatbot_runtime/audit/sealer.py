"""Chains audit events off the request path, so that requests never wait for each other's hashes. Runs in the scheduler."""

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from chatbot_runtime.audit.chain import GENESIS, next_hash
from chatbot_runtime.db.schema_auth import audit_events, audit_seals, audit_unsealed

LOCK_KEY = 0x61756469  # "audi"
"""Advisory lock of the chain: two sealers would fork it."""

BATCH = 500


@dataclass(frozen=True, slots=True)
class Sealed:
    """What one pass did: events sealed, and the chain's newest seal (number, hexadecimal hash), to be noted outside the database."""

    count: int
    seq: int
    head: str


async def seal_once(conn: AsyncConnection) -> Sealed:
    """Seal up to 500 waiting events, in the caller's transaction.

    Another sealer at work is no error: this pass then does nothing. An event that commits late with a lower id is simply sealed later;
    the chain's order is that of sealing.

    Args:
        conn: a connection in a transaction that the caller commits.
    """
    head = sa.select(audit_seals.c.seq, audit_seals.c.hash).order_by(audit_seals.c.seq.desc()).limit(1)
    locked = (await conn.execute(sa.select(sa.func.pg_try_advisory_xact_lock(LOCK_KEY)))).scalar_one()
    last = (await conn.execute(head)).one_or_none()
    seq, previous = (last.seq, last.hash) if last else (0, GENESIS)
    if not locked:
        return Sealed(0, seq, previous.hex())
    waiting = (
        sa.select(audit_events)
        .join(audit_unsealed, audit_unsealed.c.event_id == audit_events.c.id)
        .order_by(audit_events.c.id)
        .limit(BATCH)
    )
    rows = (await conn.execute(waiting)).mappings().all()
    seals = []
    for row in rows:
        seq, previous = seq + 1, next_hash(previous, dict(row))
        seals.append({"seq": seq, "event_id": row["id"], "hash": previous})
    if seals:
        await conn.execute(audit_seals.insert(), seals)
        await conn.execute(audit_unsealed.delete().where(audit_unsealed.c.event_id.in_([seal["event_id"] for seal in seals])))
    return Sealed(len(seals), seq, previous.hex())
