"""How far the log reaches, and what of it is at hand, when others write to it, too."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing

from kora_daemon.model.view import View
from kora_daemon.server.hub import Hub
from kora_daemon.server.lame_duck import send_away
from tests.support.operations import entry
from tests.support.peers import FakePeer


def shown(hub: Hub, after: int) -> list[int] | None:
    page = hub.tail.page(View(), after, hub.frontier)
    return None if page is None else [one.sequence for one in page.entries]


def test_what_follows_is_at_hand_at_once() -> None:
    hub = Hub(4)
    hub.publish([entry(5), entry(6)])
    assert (hub.frontier, shown(hub, 4)) == (6, [5, 6])


async def test_behind_a_gap_the_store_is_asked_first(autojump_clock: trio.testing.MockClock) -> None:
    hub = Hub(4)
    hub.publish([entry(6, origin=3)])
    assert hub.frontier == 4
    assert await hub.behind() == 6
    hub.fill([entry(5), entry(6)])
    page = hub.tail.page(View(), 4, 6)
    assert page is not None
    assert [(one.sequence, one.origin) for one in page.entries] == [(5, 0), (6, 3)]


async def test_a_gap_in_the_middle_counts_too(autojump_clock: trio.testing.MockClock) -> None:
    hub = Hub(4)
    hub.publish([entry(5), entry(7)])
    assert hub.frontier == 4, "6 is somebody else's and must not be passed over"
    assert await hub.behind() == 7
    hub.fill([entry(5), entry(6), entry(7)])
    assert shown(hub, 4) == [5, 6, 7]


async def test_a_record_that_took_its_history_along_leaves_no_hole(autojump_clock: trio.testing.MockClock) -> None:
    hub = Hub(10)
    hub.publish([entry(11), entry(15, origin=2), entry(13)], True)
    assert hub.frontier == 10
    assert await hub.behind() == 15
    hub.fill([entry(11), entry(13), entry(14), entry(15)])
    assert shown(hub, 10) == [11, 13, 14, 15]


async def test_what_was_read_meanwhile_is_not_taken_twice(autojump_clock: trio.testing.MockClock) -> None:
    hub = Hub(4)
    hub.reaches(6)
    hub.fill([entry(5), entry(6)])
    hub.publish([entry(6), entry(7)])
    assert shown(hub, 4) == [5, 6, 7]


async def test_an_announcement_of_nothing_is_forgotten(autojump_clock: trio.testing.MockClock) -> None:
    hub = Hub(4)
    hub.reaches(9)
    assert await hub.behind() == 9
    hub.fill([])
    with trio.move_on_after(60) as waiting:
        await hub.behind()
    assert waiting.cancelled_caught
    hub.publish([entry(5)])
    assert (hub.frontier, shown(hub, 4)) == (5, [5])


def test_after_a_leap_those_behind_read_the_store() -> None:
    hub = Hub(4)
    hub.publish([entry(5)])
    hub.skip_to(100)
    assert (hub.frontier, shown(hub, 5)) == (100, None)
    hub.publish([entry(101)])
    assert shown(hub, 100) == [101]


# Sending everybody away


@pytest.mark.parametrize(
    ("number", "spread_s", "lasts_s"),
    [(1, 5.0, 0.0), (10, 5.0, 9 / 250), (500, 5.0, 499 / 250), (2_500, 5.0, 2_499 / 500), (500, 0.0, 0.0)],
)
async def test_peers_are_sent_away_at_a_pace_at_which_they_can_come_back(
    autojump_clock: trio.testing.MockClock, number: int, spread_s: float, lasts_s: float
) -> None:
    hub = Hub(0)
    leaving = [Leaving(hub) for _ in range(number)]
    begun = trio.current_time()
    await hub.drain(spread_s)
    asked = [one.asked_at - begun for one in leaving]
    assert max(asked) == pytest.approx(lasts_s)
    assert lasts_s < 1 or asked != sorted(asked), "who came first would always be the first to go"
    assert len(hub) == 0


@pytest.mark.parametrize(("grace_s", "spread_s", "lasts_s"), [(10.0, 5.0, 5.0), (10.0, 1.0, 1.0), (2.0, 5.0, 1.0)])
async def test_it_takes_the_spread_and_half_of_the_grace_at_most(
    autojump_clock: trio.testing.MockClock, grace_s: float, spread_s: float, lasts_s: float
) -> None:
    hub = Hub(0)
    leaving = [Leaving(hub) for _ in range(2_500)]
    begun = trio.current_time()
    await send_away(hub, {}, grace_s, spread_s)
    assert max(one.asked_at for one in leaving) - begun == pytest.approx(lasts_s, rel=0.01)


class Leaving(FakePeer):
    """Goes when it is asked to."""

    def __init__(self, hub: Hub) -> None:
        super().__init__()
        self.asked_at = math.inf
        self._hub = hub
        hub.connect(self)

    def drain(self) -> None:
        self.asked_at = trio.current_time()
        self._hub.leave(self)
