"""When a connection is looked at, and what is found overdue then."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from kora_daemon.auth.contract import AuthContext
from kora_daemon.protocol import actions as do
from kora_daemon.protocol import events as on
from kora_daemon.protocol.moves import Phase
from kora_daemon.protocol.rules import SessionRules
from kora_daemon.protocol.session import Session
from kora_daemon.server.clock import new_id, now, wall_s
from kora_daemon.server.deadlines import QUIET_AT_MOST_S, Deadlines
from kora_daemon.server.identity import Identity
from kora_daemon.server.transport import MemoryTransport

PING_S = 4.0


@pytest.fixture
def autojump_clock() -> MockClock:
    return MockClock(autojump_threshold=0)


class Silent(MemoryTransport):
    """A peer that was heard once, and has read what it was sent, or not."""

    def __init__(self) -> None:
        self._heard_at = trio.current_time()
        self.pings = 0
        self.has_read = True

    @property
    def heard_at(self) -> float:
        return self._heard_at

    def hear(self) -> None:
        self._heard_at = trio.current_time()

    def ping(self) -> None:
        self.pings += 1

    def delivered(self) -> bool:
        return self.has_read


def deadlines(transport: MemoryTransport, phase: Phase = Phase.STREAMING, ping_s: float = PING_S) -> Deadlines:
    session = Session(1, SessionRules("server", handshake_timeout_ms=3_000), now(), new_id)
    session.phase = phase
    return Deadlines(session, transport, ping_s, lambda: True, lambda: None)


async def test_who_has_just_been_heard_is_left_alone_until_a_ping_is_due(autojump_clock: MockClock) -> None:
    transport = Silent()
    watched = deadlines(transport)
    assert watched.look(None) is None
    assert watched.quiet_until == pytest.approx(trio.current_time() + PING_S)
    assert transport.pings == 0


async def test_silence_is_asked_once_an_interval_and_ends_after_three(autojump_clock: MockClock) -> None:
    transport = Silent()
    watched = deadlines(transport)
    found: list[object] = []
    while not found or found[-1] is None:
        await trio.sleep_until(watched.quiet_until)
        found.append(watched.look(None))
    assert found == [None, None, None, do.Close(do.GOING_AWAY, "no sign of life")]
    assert transport.pings == 2


async def test_whoever_answers_pings_stays(autojump_clock: MockClock) -> None:
    transport = Silent()
    watched = deadlines(transport)
    for _ in range(20):
        await trio.sleep_until(watched.quiet_until)
        assert watched.look(None) is None
        transport.hear()
    assert transport.pings > 0


async def test_a_handshake_is_waited_for_and_no_longer_than_that(autojump_clock: MockClock) -> None:
    transport = Silent()
    transport.has_read = False
    watched = deadlines(transport, Phase.CONNECTED)
    assert watched.look(None) is None
    assert watched.quiet_until == pytest.approx(trio.current_time() + 3, abs=0.01)
    await trio.sleep_until(watched.quiet_until + 0.01)
    found = watched.look(None)
    assert isinstance(found, on.Tick)
    assert found.silent_ms == pytest.approx(3_010, abs=2)


async def test_what_is_overdue_keeps_no_ping_away(autojump_clock: MockClock) -> None:
    transport = Silent()
    watched = deadlines(transport, Phase.CONNECTED)
    await trio.sleep(PING_S)
    for _ in range(2):
        assert isinstance(watched.look(None), on.Tick)
    assert transport.pings == 1


async def test_a_token_is_watched_to_its_end(autojump_clock: MockClock) -> None:
    watched = deadlines(Silent())
    identity = Identity(AuthContext("ali", expires_at=wall_s() + 2), 0, wall_s())
    assert watched.look(identity) is None
    assert watched.quiet_until == pytest.approx(trio.current_time() + 2, abs=0.5)
    identity.ends_at = wall_s()
    assert isinstance(watched.look(identity), on.Renewal)


async def test_nobody_is_left_alone_for_long_since_wall_clocks_jump(autojump_clock: MockClock) -> None:
    watched = deadlines(Silent(), ping_s=0)
    assert watched.look(Identity(AuthContext("ali", expires_at=wall_s() + 900), 0, wall_s())) is None
    assert watched.quiet_until == trio.current_time() + QUIET_AT_MOST_S


async def test_the_end_of_the_quiet_is_told_once(autojump_clock: MockClock) -> None:
    told: list[float] = []
    session = Session(1, SessionRules("server"), now(), new_id)
    session.phase = Phase.STREAMING
    watched = Deadlines(session, Silent(), PING_S, lambda: True, lambda: told.append(trio.current_time()))
    watched.changed()
    assert told == []  # nobody takes it for quiet
    for times in (1, 2):
        assert watched.look(None) is None
        watched.changed()
        watched.changed()
        assert (len(told), watched.quiet_until) == (times, 0.0)
