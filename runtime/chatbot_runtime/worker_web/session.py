"""The session of one number: its state, told in metrics, logs and the channel's row, where the dashboard and the sender see it."""

import asyncio
import os
import shutil
from pathlib import Path

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from chatbot_runtime import metrics
from chatbot_runtime.db.engine import transaction
from chatbot_runtime.db.schema_queue import channels
from chatbot_runtime.errors import DatabaseDown
from chatbot_runtime.health.judge import UNPAIRED
from chatbot_runtime.queue.conversations import ensure_channel
from chatbot_runtime.queue.leases import Lease, is_held
from chatbot_runtime.worker_web.states import MESSAGES, SessionState, decide_state

log = structlog.get_logger(__name__)


class Session:
    """Follows the lease and the profile directory."""

    def __init__(self, engine: AsyncEngine, number: str, profile: Path) -> None:
        self._engine = engine
        self._number = number
        self._profile = profile
        self.state = SessionState.STANDBY
        self._paused_under: int | None = None
        self._show()

    @property
    def message(self) -> str:
        """One sentence about the state."""
        return MESSAGES[self.state]

    async def on_lease(self, lease: Lease | None) -> None:
        """Take in whether the lease is held; called at every renewal."""
        volume = await asyncio.to_thread(_volume, self._profile)
        if volume is None:
            metrics.PROFILE_BYTES.forget()
            metrics.PROFILE_FREE.forget()
        else:
            metrics.PROFILE_BYTES.set(volume[0])
            metrics.PROFILE_FREE.set(volume[1])
        usable = lease is not None and volume is not None
        self._move(decide_state(lease_held=lease is not None, profile_usable=usable))
        if lease is not None and self._paused_under != lease.epoch:
            await self._pause_channel(lease)

    def _move(self, state: SessionState) -> None:
        if state is not self.state:
            metrics.SESSION_STATE_CHANGES.labels(self.state.value, state.value).inc()
            log.info("session_state", number=self._number, before=self.state, now=state, message=MESSAGES[state])
            self.state = state
            self._show()

    def _show(self) -> None:
        for state in SessionState:
            metrics.SESSION_STATE.labels(state.value).set(state is self.state)

    async def _pause_channel(self, lease: Lease) -> None:
        """Pause sending: an unpaired number can't send. A pause that a person or a provider caused is left as it is."""
        try:
            async with transaction(self._engine) as db:
                channel = await ensure_channel(db, "web", self._number)
                if await is_held(db, lease):
                    running = sa.or_(channels.c.paused_until.is_(None), channels.c.paused_until <= sa.func.now())
                    paused = {"paused_until": sa.text("'infinity'::timestamptz"), "pause_reason": UNPAIRED}
                    await db.execute(channels.update().where(channels.c.id == channel, running).values(paused))
        except DatabaseDown:
            return  # tried again at the next renewal
        self._paused_under = lease.epoch


def _volume(profile: Path) -> tuple[int, int] | None:
    """Return the size of the profile's volume and what it has left; None when the directory can't be used."""
    if not profile.is_dir() or not os.access(profile, os.W_OK | os.X_OK):
        return None
    usage = shutil.disk_usage(profile)
    return usage.total, usage.free
