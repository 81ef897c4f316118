"""Which session is in which room, and that rooms come and go with those in them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
import trio
import trio.testing
from msgspec import Raw

from kora_daemon.model.record import RecordKey
from kora_daemon.model.scope import ScopeMap
from kora_daemon.server.hub import Hub
from kora_daemon.server.lookups import Lookups
from kora_daemon.server.rooms import LONGEST_PAUSE_S, REFRESH_INTERVAL_S, SHORTEST_PAUSE_S, AwarenessRooms
from kora_daemon.wire.formats import SharedMessage
from tests.support.peers import FakePeer

ALI: ScopeMap = {"notes": {"ownerId": "ali"}}
BEA: ScopeMap = {"notes": {"ownerId": "bea"}}


async def alis_records(keys: Iterable[RecordKey]) -> dict[RecordKey, dict[str, Any]]:
    return {key: {"ownerId": "ali"} for key in keys}


class Scene:
    """Rooms, and what other daemons are told."""

    def __init__(self, *group_by: str) -> None:
        self.lookups = Lookups(Hub(0), alis_records)
        self.rooms = AwarenessRooms(self.lookups, group_by=group_by)
        self.told: list[tuple[int, str, Any]] = []
        self.rooms.abroad = lambda number, room, state: self.told.append((number, room, state and bytes(state)))

    def say(self, peer: FakePeer, name: str = "x", client_id: float = 1, **members: Any) -> None:
        state = Raw(json.dumps({"user": {"name": name}, **members}).encode())
        self.rooms.update(peer, client_id, {str(int(client_id)): state})

    async def later(self, seconds: float = 2 * REFRESH_INTERVAL_S) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.rooms.run)
            nursery.start_soon(self.lookups.run)
            await trio.sleep(seconds)
            nursery.cancel_scope.cancel()


@pytest.fixture
def scene() -> Scene:
    return Scene()


def names(peer: FakePeer) -> set[str | None]:
    states = [state for message in peer.heard for state in message["states"].values()]
    return {state and state["user"]["name"] for state in states}


async def test_there_is_a_room_for_each_audience_and_one_for_the_unrestricted(
    scene: Scene, autojump_clock: trio.testing.MockClock
) -> None:
    ali, other, bea, boss, nobody = peers = [FakePeer(s) for s in (ALI, ALI, BEA, None, {})]
    for name, peer in zip("abcde", peers, strict=True):
        scene.say(peer, name)
    await scene.later()
    assert len(scene.rooms) == 4
    assert [names(peer) for peer in (ali, other, bea, boss, nobody)] == [{"b"}, {"a"}, set(), set(), set()]
    assert list(scene.rooms.unrestricted.get_states()) == [1]


class SlowPeer(FakePeer):
    """To send to it takes so many seconds of the loop's time; notes when that begins."""

    def __init__(self, clock: trio.testing.MockClock, seconds: float) -> None:
        super().__init__()
        self._clock, self._seconds = clock, seconds
        self.heard_at: list[float] = []

    def offer(self, message: SharedMessage) -> bool:
        self.heard_at.append(trio.current_time())
        self._clock.jump(self._seconds)
        return super().offer(message)


@pytest.mark.parametrize(
    ("sending_s", "pause_s"),
    [(0.0, SHORTEST_PAUSE_S), (0.002, 0.008), (0.1, LONGEST_PAUSE_S)],
    ids=["quick", "some", "slow"],
)
async def test_the_more_a_round_costs_the_longer_is_the_pause_behind_it(
    scene: Scene, autojump_clock: trio.testing.MockClock, sending_s: float, pause_s: float
) -> None:
    hearer, speaker = SlowPeer(autojump_clock, sending_s), FakePeer()
    scene.say(hearer, "Hearer", 2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.rooms.run)
        await trio.sleep(0.5)
        scene.say(speaker, "Speaker")
        await trio.testing.wait_all_tasks_blocked()
        scene.say(speaker, "Speaker again")
        await trio.sleep(0.5)
        nursery.cancel_scope.cancel()
    first, second = hearer.heard_at
    assert second - first == pytest.approx(sending_s + pause_s)


async def test_between_the_unrestricted_nothing_is_judged(scene: Scene, autojump_clock: trio.testing.MockClock) -> None:
    boss, other = FakePeer(), FakePeer()
    scene.say(other, "Other")
    scene.say(boss, "Boss", cursor="anywhere")
    await scene.later()
    (state,) = other.heard[-1]["states"].values()
    assert state == {"user": {"name": "Boss"}, "cursor": "anywhere"}


async def test_rooms_are_gone_with_those_who_were_in_them(scene: Scene, autojump_clock: trio.testing.MockClock) -> None:
    ali, other, boss = FakePeer(ALI), FakePeer(ALI), FakePeer()
    for peer in (ali, other, boss):
        scene.say(peer)
    scene.rooms.add_distant("far", "d/1", Raw(b"{}"))
    scene.rooms.add_distant("far", "d/1", Raw(b'{"a":1}'))
    assert len(scene.rooms) == 3
    scene.rooms.remove(ali.number)
    assert len(scene.rooms) == 3
    scene.rooms.remove(other.number)
    scene.rooms.remove(other.number)
    scene.rooms.remove(boss.number)
    assert len(scene.rooms) == 2
    scene.rooms.remove_distant("d/1")
    scene.rooms.remove_distant("d/1")
    assert len(scene.rooms) == 1
    await scene.later()


async def test_a_client_id_that_is_no_integer_is_of_no_use(scene: Scene) -> None:
    peer = FakePeer()
    scene.say(peer, client_id=1.5)
    assert scene.rooms.unrestricted.get_states() == {}
    scene.say(peer, client_id=2.0)
    assert list(scene.rooms.unrestricted.get_states()) == [2]


async def test_groups_are_told_by_the_grant(autojump_clock: trio.testing.MockClock) -> None:
    scene = Scene("orgId")
    acme = {"todos": {"orgId": "acme"}}
    ann, ben, liar = FakePeer(acme), FakePeer({**acme, **ALI}), FakePeer({"todos": {}}, acme)
    for peer, name in ((ann, "Ann"), (ben, "Ben"), (liar, "Liar")):
        scene.say(peer, name)
    await scene.later()
    assert [names(peer) for peer in (ann, ben, liar)] == [{"Ben"}, {"Ann"}, set()]


async def test_other_daemons_are_told_of_the_room_and_of_what_may_be_said(
    scene: Scene, autojump_clock: trio.testing.MockClock
) -> None:
    ali, bea = FakePeer(ALI), FakePeer(BEA)
    cursor = {"collection": "notes", "recordId": "n1"}
    for peer in (ali, bea):
        scene.say(peer, cursor=cursor)
    await scene.later()
    scene.rooms.remove(ali.number)
    (_, first, state), (_, second, bare), *rest = scene.told
    assert len({first, second}) == 2
    assert json.loads(state) == {"user": {"name": "x"}, "cursor": cursor}
    assert json.loads(bare) == {"user": {"name": "x"}}
    assert rest == [(ali.number, first, None)]
    scene.rooms.add_distant(second, "far/1", Raw(state))
    await scene.later()
    assert bea.heard[-1]["states"] == {str(1 << 32 | 1): json.loads(bare)}


async def test_a_distant_client_is_in_one_room_at_a_time(scene: Scene, autojump_clock: trio.testing.MockClock) -> None:
    ali, bea = FakePeer(ALI), FakePeer(BEA)
    scene.say(ali)
    scene.say(bea)
    await scene.later()
    rooms = [room for _, room, _ in scene.told]
    scene.rooms.add_distant(rooms[0], "far/1", Raw(b'{"user":{"name":"Far"}}'))
    await scene.later()
    scene.rooms.add_distant(rooms[1], "far/1", Raw(b'{"user":{"name":"Far"}}'))
    await scene.later()
    assert [names(ali), names(bea)] == [{"Far", None}, {"Far"}]
