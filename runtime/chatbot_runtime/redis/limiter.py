"""Pacing by GCRA: in Redis, and with the same arithmetic on rows of PostgreSQL at half the rate while Redis is gone.

A key has a theoretical arrival time (TAT). A send moves it by 1/rate; it is allowed while TAT stays within `burst` steps of now. Several
limits are taken together or not at all. A TAT that neither sends nor a penalty can have reached was noted by a clock that has been put back
since: it is cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from chatbot_runtime import metrics
from chatbot_runtime.db.engine import transaction
from chatbot_runtime.db.schema_queue import rate_limits
from chatbot_runtime.redis.client import RedisClient, RedisDown

FALLBACK_FACTOR: Final = 2.0
"""How much slower we are without Redis: what was sent just before is not known there."""

PENALTY_MAX_S: Final = 600.0
"""Longest stop of a limit, whatever the provider asks for: then one send finds out."""

SCRIPT: Final = """
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000000 + tonumber(t[2])
local wait, which, fresh = 0, 0, {}
for i, key in ipairs(KEYS) do
  local step, burst = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local ahead = tonumber(redis.call('GET', key) or '0') - now
  local most = step * burst + tonumber(ARGV[2 * #KEYS + 1])
  if ahead > most then
    ahead = most
    redis.call('SET', key, string.format('%.0f', now + ahead), 'PX', math.ceil(ahead / 1000) + 1000)
  end
  local tat = now + math.max(ahead, 0) + step
  fresh[i] = tat
  if tat - step * burst - now > wait then wait, which = tat - step * burst - now, i end
end
if wait == 0 then
  for i, key in ipairs(KEYS) do
    redis.call('SET', key, string.format('%.0f', fresh[i]), 'PX', math.ceil((fresh[i] - now) / 1000) + 1000)
  end
end
return {string.format('%.0f', wait), which}
"""

PENALTY: Final = """
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000000 + tonumber(t[2])
local tat = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now + tonumber(ARGV[1]))
redis.call('SET', KEYS[1], string.format('%.0f', tat), 'PX', math.ceil((tat - now) / 1000) + 1000)
return 1
"""

AHEAD: Final = """
local t = redis.call('TIME')
return string.format('%.0f', tonumber(redis.call('GET', KEYS[1]) or '0') - tonumber(t[1]) * 1000000 - tonumber(t[2]))
"""


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit.

    Attributes:
        name: for metrics, such as `number`; the key is not, as it may hold an id of a person.
        key: what is limited.
        step_s: seconds between two sends in the long run.
        burst: sends that may follow at once after a pause; at least 1.
    """

    name: str
    key: str
    step_s: float
    burst: int


@dataclass(frozen=True, slots=True)
class Wait:
    """How long to wait, and for which limit; nothing was taken."""

    seconds: float
    limit: Limit


class Limiter:
    """Takes from limits that all replicas share."""

    def __init__(self, redis: RedisClient, engine: AsyncEngine) -> None:
        self._redis = redis
        self._engine = engine

    async def take(self, limits: Sequence[Limit]) -> Wait | None:
        """Take one from every limit.

        Returns:
            None when taken; else the longest wait, and nothing was taken.

        Raises:
            DatabaseDown: Redis is gone and PostgreSQL too.
        """
        try:
            wait, mode = await self._take_redis(limits), "redis"
        except RedisDown:
            wait, mode = await self._take_postgres(limits), "postgres"
        for name in ("redis", "postgres"):
            metrics.LIMITER_MODE.labels(mode=name).set(name == mode)
        if wait is not None:
            metrics.RATE_LIMITED.labels(limit=wait.limit.name).inc()
        return wait

    async def penalise(self, limit: Limit, seconds: float) -> None:
        """Let nothing more through a limit for some seconds, as the provider asked, at most `PENALTY_MAX_S`."""
        seconds = min(seconds, PENALTY_MAX_S)
        offset = limit.step_s * (limit.burst - 1) + seconds
        try:
            await self._redis.run("EVAL", PENALTY, 1, self._redis.prefix + limit.key, _micro(offset))
        except RedisDown:
            slow = limit.step_s * FALLBACK_FACTOR * (limit.burst - 1) + seconds
            async with transaction(self._engine) as conn:
                now = (await conn.execute(sa.select(sa.func.clock_timestamp()))).scalar_one()
                rows = insert(rate_limits).values(key=limit.key, tat=now + timedelta(seconds=slow))
                later = sa.func.greatest(rate_limits.c.tat, rows.excluded.tat)
                await conn.execute(rows.on_conflict_do_update(index_elements=[rate_limits.c.key], set_={"tat": later}))

    async def headroom(self, limit: Limit) -> float:
        """Return the share of a limit's burst that is free: 1 after a pause, 0 while the next send would have to wait.

        Raises:
            DatabaseDown: Redis is gone and PostgreSQL too.
        """
        try:
            ahead_s = int(await self._redis.run("EVAL", AHEAD, 1, self._redis.prefix + limit.key)) / 1e6
            step_s = limit.step_s
        except RedisDown:
            query = sa.select(rate_limits.c.tat - sa.func.clock_timestamp()).where(rate_limits.c.key == limit.key)
            async with transaction(self._engine) as conn:
                ahead = (await conn.execute(query)).scalar_one_or_none()
            ahead_s = 0.0 if ahead is None else ahead.total_seconds()
            step_s = limit.step_s * FALLBACK_FACTOR
        return min(1.0, max(0.0, 1.0 - ahead_s / (step_s * limit.burst)))

    async def _take_redis(self, limits: Sequence[Limit]) -> Wait | None:
        keys = [self._redis.prefix + limit.key for limit in limits]
        arguments = [text for limit in limits for text in (_micro(limit.step_s), str(limit.burst))]
        wait, which = await self._redis.run("EVAL", SCRIPT, len(keys), *keys, *arguments, _micro(PENALTY_MAX_S))
        return Wait(int(wait) / 1e6, limits[int(which) - 1]) if int(which) else None

    async def _take_postgres(self, limits: Sequence[Limit]) -> Wait | None:
        async with transaction(self._engine) as conn:
            keys = sorted({limit.key for limit in limits})
            rows = insert(rate_limits).values([{"key": key, "tat": sa.func.to_timestamp(0)} for key in keys])
            await conn.execute(rows.on_conflict_do_nothing())
            query = sa.select(rate_limits.c.key, rate_limits.c.tat).where(rate_limits.c.key.in_(keys)).order_by(rate_limits.c.key)
            noted = {row.key: row.tat for row in (await conn.execute(query.with_for_update())).all()}
            now = (await conn.execute(sa.select(sa.func.clock_timestamp()))).scalar_one()
            known = cut(limits, noted, now)
            fresh, wait = decide(limits, known, now)
            await _store(conn, noted, fresh if wait is None else known)
            return wait


def cut(limits: Sequence[Limit], noted: dict[str, datetime], now: datetime) -> dict[str, datetime]:
    """Return TATs of which none is further ahead than sends and a penalty bring it. Pure; arguments as for `decide`."""
    most = {limit.key: timedelta(seconds=limit.step_s * FALLBACK_FACTOR * limit.burst + PENALTY_MAX_S) for limit in limits}
    return {key: min(tat, now + most[key]) for key, tat in noted.items()}


def decide(limits: Sequence[Limit], known: dict[str, datetime], now: datetime) -> tuple[dict[str, datetime], Wait | None]:
    """Do GCRA's arithmetic at the fallback's rate. Pure.

    Args:
        limits: distinct keys.
        known: TAT by key.
        now: the database's time.

    Returns:
        The new TATs, and the longest wait if one limit does not pass (the TATs then must not be stored).
    """
    fresh, longest = {}, None
    for limit in limits:
        step = timedelta(seconds=limit.step_s * FALLBACK_FACTOR)
        fresh[limit.key] = max(known[limit.key], now) + step
        seconds = (fresh[limit.key] - step * limit.burst - now).total_seconds()
        if seconds > 0 and (longest is None or seconds > longest.seconds):
            longest = Wait(seconds, limit)
    return fresh, longest


async def _store(conn: AsyncConnection, noted: dict[str, datetime], tats: dict[str, datetime]) -> None:
    """Write the TATs that differ from what is noted; their rows are locked."""
    for key, tat in sorted(tats.items()):
        if tat != noted[key]:
            await conn.execute(rate_limits.update().where(rate_limits.c.key == key).values(tat=tat))


def _micro(seconds: float) -> str:
    return str(round(seconds * 1e6))
