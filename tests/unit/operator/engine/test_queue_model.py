"""The work queue against a simple model of client-go's semantics, by random sequences of operations."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chatbot_operator.engine.queue import Backoff, Priority, WorkQueue
from tests.unit.operator.engine.fakes import FakeClock

AGING = 30.0
KEYS = st.sampled_from("abcdef")
PRIORITIES = st.sampled_from(list(Priority))


@dataclass
class _Observer:
    depths: list[int] = field(default_factory=list)
    adds: int = 0
    taken_keys: int = 0
    retries: int = 0

    def added(self, depth: int) -> None:
        self.adds += 1
        self.depths.append(depth)

    def taken(self, waited: float, depth: int) -> None:
        assert waited >= 0
        self.taken_keys += 1

    def finished(self, worked: float, depth: int) -> None:
        assert worked >= 0

    def retried(self) -> None:
        self.retries += 1


class QueueMachine(RuleBasedStateMachine):
    """`dirty` are keys that want a pass, with the rank by which they are served; `due` are keys that will want one."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.observer = _Observer()
        self.queue: WorkQueue[str] = WorkQueue(
            self.clock, self.observer, aging=AGING, rand=lambda: 0.5, backoff=Backoff(base=1.0, cap=8.0, jitter=0.2)
        )
        self.dirty: dict[str, tuple[Priority, float]] = {}
        self.due: dict[str, tuple[float, Priority]] = {}
        self.processing: set[str] = set()
        self.failures: dict[str, int] = {}

    def _add(self, key: str, priority: Priority) -> None:
        rank = self.clock.seconds + (AGING if priority is Priority.LOW else 0)
        known = self.dirty.get(key)
        self.dirty[key] = (priority, rank) if known is None else (min(known[0], priority), min(known[1], rank))

    def _add_after(self, key: str, delay: float, priority: Priority) -> None:
        if delay <= 0:
            self._add(key, priority)
            return
        at = self.clock.seconds + delay
        known = self.due.get(key)
        self.due[key] = (at, priority) if known is None or at < known[0] else (known[0], min(known[1], priority))

    def _promote(self) -> None:
        for key, (at, priority) in sorted(self.due.items(), key=lambda item: item[1][0]):
            if at <= self.clock.seconds:
                del self.due[key]
                self._add(key, priority)

    @rule(key=KEYS, priority=PRIORITIES)
    def add(self, key: str, priority: Priority) -> None:
        self.queue.add(key, priority)
        self._add(key, priority)

    @rule(key=KEYS, delay=st.sampled_from([0.0, -1.0, 1.0, 5.0, 40.0]), priority=PRIORITIES)
    def add_after(self, key: str, delay: float, priority: Priority) -> None:
        self.queue.add_after(key, delay, priority)
        self._add_after(key, delay, priority)

    @rule(key=KEYS)
    def add_rate_limited(self, key: str) -> None:
        count = self.failures.get(key, 0)
        self.failures[key] = count + 1
        assert self.queue.add_rate_limited(key) == min(8.0, 2.0**count)
        self._add_after(key, min(8.0, 2.0**count), Priority.HIGH)

    @rule(key=KEYS)
    def forget(self, key: str) -> None:
        self.queue.forget(key)
        self.failures.pop(key, None)

    @rule(key=KEYS)
    def drop(self, key: str) -> None:
        self.queue.drop(key)
        for known in (self.dirty, self.due, self.failures):
            known.pop(key, None)  # type: ignore[attr-defined]

    @rule(seconds=st.sampled_from([0.5, 1.0, 7.0, 31.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def take(self) -> None:
        self._promote()
        waiting = {key: rank for key, (_, rank) in self.dirty.items() if key not in self.processing}
        key = self.queue.take()
        if not waiting:
            assert key is None
            return
        assert key is not None, f"{waiting} wait"
        assert waiting[key] == min(waiting.values()), "a key that came later was served first"
        del self.dirty[key]
        self.processing.add(key)

    @precondition(lambda self: self.processing)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.processing)))
        self.queue.done(key)
        self.processing.remove(key)
        if key in self.dirty:
            priority = self.dirty.pop(key)[0]
            self._add(key, priority)

    @invariant()
    def agrees(self) -> None:
        assert set(self.queue.processing) == self.processing
        assert self.queue.depth == len(set(self.dirty) - self.processing)
        assert self.queue.next_due() == min((at for at, _ in self.due.values()), default=None)
        for key in "abcdef":
            assert self.queue.failures(key) == self.failures.get(key, 0)


QueueMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestQueueModel = QueueMachine.TestCase


@pytest.mark.parametrize("rand", [0.0, 0.5, 0.999])
def test_backoff_doubles_with_jitter_within_a_fifth_and_a_cap(rand: float) -> None:
    backoff = Backoff(base=0.005, cap=300.0, jitter=0.2)
    for failures in range(70):
        exact = min(300.0, 0.005 * 2**failures)
        assert abs(backoff.delay(failures, lambda: rand) / exact - 1) <= 0.2 + 1e-9
