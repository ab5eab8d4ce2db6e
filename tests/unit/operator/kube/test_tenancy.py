"""However messages are delayed or lost and whoever stops when, two candidates are never leaders at the same time."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatbot_operator.kube.tenancy import Record, Tenancy

SECONDS = 12.0


def record(holder: str, version: int, seconds: float = SECONDS) -> Record:
    return Record(holder, seconds, 1, str(version))


@pytest.fixture
def tenancy() -> Tenancy:
    return Tenancy("me", SECONDS)


def test_nobody_leads_before_a_write(tenancy: Tenancy) -> None:
    assert not tenancy.is_leader(0)
    assert tenancy.wait(0) == 0
    tenancy.see(record("me", 1), 0)
    assert not tenancy.is_leader(0), "a name in the Lease from an earlier life proves nothing"


def test_the_deadline_counts_from_before_the_write_and_ends_before_the_lease(tenancy: Tenancy) -> None:
    tenancy.wrote(record("me", 2), sent=100.0)
    assert tenancy.is_leader(109.9)
    assert not tenancy.is_leader(110.0)


@pytest.mark.parametrize(("seconds", "margin"), [(12, 2.0), (120, 2.0), (4, 1.0), (1, 0.25)])
def test_the_margin_is_two_seconds_or_a_quarter_of_a_short_lease(seconds: float, margin: float) -> None:
    assert Tenancy("me", seconds).margin == margin


def test_a_standby_waits_a_whole_lease_from_the_last_change_it_saw(tenancy: Tenancy) -> None:
    tenancy.see(record("other", 1), 50.0)
    tenancy.see(record("other", 1), 60.0)
    assert tenancy.wait(60.0) == 2.0
    tenancy.see(record("other", 2), 61.0)
    assert tenancy.wait(61.0) == SECONDS
    assert tenancy.wait(73.0) == 0


def test_a_longer_lease_of_the_holder_is_respected(tenancy: Tenancy) -> None:
    tenancy.see(record("other", 1, seconds=60), 0)
    assert tenancy.wait(12) == 48


def test_a_released_lease_may_be_taken_at_once(tenancy: Tenancy) -> None:
    tenancy.see(record("other", 1), 0)
    tenancy.see(record("", 2), 1)
    assert tenancy.wait(1) == 0


def test_seeing_another_holder_ends_leadership_at_once_but_old_news_does_not(tenancy: Tenancy) -> None:
    tenancy.wrote(record("me", 5), sent=0)
    tenancy.see(record("other", 4), 1)
    assert tenancy.is_leader(1), "the watch delivered late what our own write has replaced"
    tenancy.see(record("other", 6), 1)
    assert not tenancy.is_leader(1)
    assert tenancy.other_holder() == "other"


def test_a_deleted_lease_does_not_shorten_the_time_of_its_holder(tenancy: Tenancy) -> None:
    tenancy.see(record("other", 1), 0)
    tenancy.gone(5)
    tenancy.gone(9)
    assert tenancy.wait(9) == 8


def test_stepping_down_is_immediate(tenancy: Tenancy) -> None:
    tenancy.wrote(record("me", 1), sent=0)
    tenancy.step_down()
    assert not tenancy.is_leader(0)


@dataclass
class Server:
    """A Lease with optimistic locking."""

    holder: str = ""
    version: int = 1
    history: list[Record] = field(default_factory=list)

    def current(self) -> Record:
        return record(self.holder, self.version, SHORT)

    def write(self, holder: str, expected: str) -> Record | None:
        if expected != str(self.version):
            return None
        self.holder, self.version = holder, self.version + 1
        self.history.append(self.current())
        return self.current()


@dataclass(frozen=True)
class Move:
    """One candidate does one thing: `pause` seconds after the move before; a write takes `flight` seconds to reach the server."""

    name: str
    what: str
    pause: float
    flight: float
    answered: bool


SHORT = 4.0
moves = st.lists(
    st.builds(
        Move,
        name=st.sampled_from(["a", "b"]),
        what=st.sampled_from(["write", "write", "write", "watch", "release"]),
        pause=st.sampled_from([0.0, 0.5, 1.0, 2.0, 4.0]),
        flight=st.sampled_from([0.0, 0.5, 2.0, 6.0]),
        answered=st.booleans(),
    ),
    min_size=8,
    max_size=40,
)


def play(happenings: list[Move], make: type[Tenancy] = Tenancy) -> int:
    """Play the moves as `lease.py` makes them, check after each that one at most leads, and return how often the Lease changed hands."""
    server, now, hands = Server(), 0.0, 0
    candidates = {name: make(name, SHORT) for name in ("a", "b")}
    for move in happenings:
        now += move.pause
        tenancy, sent = candidates[move.name], now
        if move.what == "watch" and server.history:
            tenancy.see(server.history[-1 - int(move.flight) % len(server.history)], now)
        elif move.what == "release" and tenancy.is_leader(now) and tenancy.record is not None:
            tenancy.step_down()
            server.write("", tenancy.record.version)
        elif move.what == "write" and tenancy.record is not None and tenancy.wait(now) == 0:
            now += move.flight
            before = server.holder
            answer = server.write(move.name, tenancy.record.version)
            hands += answer is not None and before not in ("", move.name)
            if answer is not None and move.answered:
                tenancy.wrote(answer, sent)
            else:
                tenancy.see(server.current(), now, read=True)
        else:
            tenancy.see(server.current(), now, read=True)
        leaders = [each for each in candidates.values() if each.is_leader(now)]
        assert len(leaders) <= 1, "two leaders"
        assert not leaders or server.holder == leaders[0].identity, "a leader whose Lease another took already"
    return hands


@settings(max_examples=500, deadline=None)
@given(moves)
def test_two_candidates_never_lead_at_the_same_time(happenings: list[Move]) -> None:
    play(happenings)


class Optimist(Tenancy):
    """A candidate that counts its deadline from the answer instead of from before the write, and keeps no margin."""

    def wrote(self, record: Record, sent: float) -> None:
        super().wrote(record, sent)
        self.deadline = sent + self.seconds * 1.5


def act(name: str, what: str = "write", *, pause: float = 0.0, flight: float = 0.0, answered: bool = True) -> Move:
    return Move(name, what, pause, flight, answered)


TAKE_OVER = [act("a", "look"), act("a"), act("b", "look"), act("b", pause=SHORT)]


def test_the_game_reaches_take_overs_and_hand_overs() -> None:
    assert play(TAKE_OVER) == 1
    assert play([*TAKE_OVER, act("b", "release"), act("a", "look"), act("a")]) == 1, "a released Lease is nobody's"


def test_the_game_finds_a_candidate_that_leads_for_too_long() -> None:
    """So the property above can fail."""
    with pytest.raises(AssertionError):
        play(TAKE_OVER, Optimist)
