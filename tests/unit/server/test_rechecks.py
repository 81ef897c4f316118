"""When live sessions are judged again, in which company, and what becomes of those that can't be judged."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from kora_daemon.auth.contract import AuthContext, Standing
from kora_daemon.errors import AuthUnavailable
from kora_daemon.server.identification import AuthRules, Identification
from kora_daemon.server.identity import Identity
from kora_daemon.server.rechecks import CHUNK, MOST_FAILURES, Rechecks


@pytest.fixture
def autojump_clock() -> MockClock:
    return MockClock(autojump_threshold=0)


class Session:
    """A live session."""

    def __init__(self, number: int, since: float = 0.0) -> None:
        self.identity: Identity | None = Identity(AuthContext(f"user-{number}", {}), since, 0)
        self.heard: list[tuple[float, Standing]] = []

    def judged(self, standing: Standing) -> None:
        self.heard.append((round(trio.current_time(), 1), standing))


class Judge:
    """Lets everybody stay but `gone`, and can't say when it is asked about somebody in `poison`."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.gone: set[str] = set()
        self.poison: set[str] = set()
        self.is_down = False
        self.hangs = False

    async def authenticate(self, token: str) -> AuthContext | None:
        raise NotImplementedError

    async def revalidate(self, contexts: Sequence[AuthContext]) -> list[Standing]:
        self.asked.append(len(contexts))
        if self.hangs:
            await trio.sleep_forever()
        names = {one.user_id for one in contexts}
        if self.is_down or names & self.poison:
            raise AuthUnavailable("down")
        return [None if one.user_id in self.gone else one for one in contexts]


class Room:
    """Sessions, who judges them, and the task that asks."""

    def __init__(self, nursery: trio.Nursery, sessions: Sequence[Session], revalidate: float = 30.0) -> None:
        self.judge = Judge()
        self.identification = Identification(self.judge, AuthRules(revalidate=revalidate))
        self.sessions = list(sessions)
        self.rechecks = Rechecks(self.identification, lambda: self.sessions)
        nursery.start_soon(self.rechecks.run)


async def test_everybody_is_judged_once_in_an_interval(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    room = Room(nursery, [Session(n) for n in range(10)])
    await trio.sleep(100)
    assert room.judge.asked == [10, 10, 10]
    for session in room.sessions:
        times = [at for at, _ in session.heard]
        assert [round(at) for at in times] == [30, 60, 90]


async def test_nobody_waits_longer_than_the_interval_whenever_they_came(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    room = Room(nursery, [])
    for number in range(60):
        room.sessions.append(Session(number, trio.current_time()))
        await trio.sleep(1)
    await trio.sleep(120)
    for number, session in enumerate(room.sessions):
        times = [number, *(at for at, _ in session.heard)]
        assert all(20 <= after - before <= 32 for before, after in pairwise(times)), times
    # Those that are nearly due go along: not one question for each.
    assert len(room.judge.asked) <= 6 * 7


async def test_a_question_is_about_two_hundred_at_most(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    room = Room(nursery, [Session(n) for n in range(1000)])
    await trio.sleep(40)
    assert room.judge.asked == [CHUNK] * 5


@pytest.mark.parametrize("revalidate", [0.0, 30.0])
async def test_after_a_reconfiguration_all_are_judged_at_once(
    autojump_clock: MockClock, nursery: trio.Nursery, revalidate: float
) -> None:
    room = Room(nursery, [Session(n) for n in range(3)], revalidate)
    await trio.sleep(5)
    room.rechecks.soon()
    await trio.sleep(2)
    assert room.judge.asked == [3]
    await trio.sleep(20)
    assert room.judge.asked == [3]


async def test_never_is_never(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    room = Room(nursery, [Session(n) for n in range(3)], revalidate=0)
    await trio.sleep(10_000)
    assert room.judge.asked == []


async def test_each_hears_its_own_verdict_and_who_is_unknown_is_left_out(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    room = Room(nursery, [Session(n) for n in range(4)])
    room.sessions[1].identity = None
    room.judge.gone = {"user-2"}
    await trio.sleep(35)
    assert [[standing for _, standing in one.heard] for one in room.sessions] == [
        [AuthContext("user-0", {})],
        [],
        [None],
        [AuthContext("user-3", {})],
    ]


async def test_one_that_can_not_be_judged_does_not_hide_the_others(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    room = Room(nursery, [Session(n) for n in range(400)])
    room.judge.poison, room.judge.gone = {"user-77"}, {"user-76", "user-399"}
    with capture_logs() as lines:
        await trio.sleep(35)
    assert [n for n, one in enumerate(room.sessions) if not one.heard] == [77]
    assert [n for n, one in enumerate(room.sessions) if one.heard and one.heard[0][1] is None] == [76, 399]
    assert [line["event"] for line in lines] == ["auth.recheck_unavailable"]


async def test_during_an_outage_everybody_stays_and_it_is_one_line_a_round(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    room = Room(nursery, [Session(n) for n in range(1000)])
    room.judge.is_down = True
    with capture_logs() as lines:
        await trio.sleep(70)
    assert not any(one.heard for one in room.sessions)
    assert len(room.judge.asked) == 2 * MOST_FAILURES
    assert [line["event"] for line in lines] == ["auth.recheck_unavailable"] * 2
    room.judge.is_down = False
    await trio.sleep(30)
    assert all(one.heard for one in room.sessions)


async def test_a_provider_that_hangs_is_asked_nothing_more_when_another_takes_its_place(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    room = Room(nursery, [Session(n) for n in range(1000)])
    room.judge.hangs = True
    await trio.sleep(40)
    successor: Any = Judge()
    room.identification.replace(successor, AuthRules())
    room.rechecks.soon()
    await trio.sleep(150)
    assert successor.asked[:5] == [CHUNK] * 5
    assert all(one.heard for one in room.sessions)
