"""Leases with an epoch: one process at a time does a thing, and one that has lost its lease can tell.

The database's clock judges expiry. The epoch rises with every new holder, so what an old holder still commits can be refused.
"""

from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from chatbot_runtime.db.schema_queue import worker_leases


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that was held when it was returned."""

    name: str
    holder: str
    epoch: int


async def acquire(conn: AsyncConnection, name: str, holder: str, ttl_s: float) -> Lease | None:
    """Take a lease that is free, expired or already ours.

    Args:
        conn: a connection whose transaction the caller commits, or `autocommit`.
        name: what is leased, such as `web:support`.
        holder: unique name of this process; a restarted process must have another one.
        ttl_s: seconds it lasts without `renew`.

    Returns:
        The lease, or None while another holder has it. The epoch rises unless the lease was ours and alive.
    """
    known = worker_leases.c
    until = sa.func.clock_timestamp() + timedelta(seconds=ttl_s)
    free = known.expires_at <= sa.func.clock_timestamp()
    ours = known.holder == holder
    statement = insert(worker_leases).values(name=name, holder=holder, epoch=1, expires_at=until)
    taken = statement.on_conflict_do_update(
        index_elements=[known.name],
        set_={"holder": holder, "epoch": known.epoch + sa.case((sa.and_(ours, ~free), 0), else_=1), "expires_at": until},
        where=sa.or_(free, ours),
    ).returning(known.epoch)
    epoch = (await conn.execute(taken)).scalar_one_or_none()
    return None if epoch is None else Lease(name, holder, epoch)


async def renew(conn: AsyncConnection, lease: Lease, ttl_s: float) -> bool:
    """Extend a lease.

    Returns:
        False when it has expired or somebody else has it: the caller must stop what the lease allowed.
    """
    extended = (
        worker_leases.update()
        .where(*_held(lease))
        .values(expires_at=sa.func.clock_timestamp() + timedelta(seconds=ttl_s))
        .returning(worker_leases.c.epoch)
    )
    return (await conn.execute(extended)).one_or_none() is not None


async def release(conn: AsyncConnection, lease: Lease) -> None:
    """Give a lease up, so that the next holder need not wait; no-op when it is no longer ours."""
    await conn.execute(worker_leases.update().where(*_held(lease)).values(expires_at=sa.func.clock_timestamp()))


async def is_held(conn: AsyncConnection, lease: Lease) -> bool:
    """Whether the lease still stands; the row stays locked to the end of the transaction, so what is committed with it is fenced."""
    query = sa.select(worker_leases.c.epoch).where(*_held(lease)).with_for_update(read=True)
    return (await conn.execute(query)).one_or_none() is not None


def _held(lease: Lease) -> tuple[sa.ColumnElement[bool], ...]:
    known = worker_leases.c
    return (
        known.name == lease.name,
        known.holder == lease.holder,
        known.epoch == lease.epoch,
        known.expires_at > sa.func.clock_timestamp(),
    )
