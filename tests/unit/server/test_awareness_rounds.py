"""In a busy room changes are merged, and whatever happens, all see exactly the others (wire.md section 9)."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from kora_daemon.server.awareness import REFRESH_AFTER_S, AwarenessRelay
from kora_daemon.server.hub import Hub
from kora_daemon.server.lookups import Lookups
from kora_daemon.server.rooms import AwarenessRooms
from tests.support.presence import ANN, BOB, CLEO, Device


@pytest.fixture
def rounds() -> AwarenessRelay:
    """A room that waits for its rounds."""
    return AwarenessRelay(wake=lambda: None)


class TestRounds:
    """In a busy room changes are merged."""

    def test_nothing_is_sent_before_the_round(self, rounds: AwarenessRelay) -> None:
        ann, bob = (Device(rounds, number).join() for number in (31, 32))
        bob.say(BOB)
        assert ann.heard == []
        rounds.send_round()
        assert ann.sees == ["Bob"]

    def test_many_changes_become_one_message_with_the_last_of_each(self, rounds: AwarenessRelay) -> None:
        ann, bob, cleo = (Device(rounds, number).join() for number in (31, 32, 33))
        for state in (ANN, BOB):
            bob.say(state)
        cleo.say(CLEO)
        rounds.send_round()
        [update] = ann.heard
        assert (update["clientId"], update["states"]) == (0, {"32": BOB, "33": CLEO})
        assert [bob.sees, cleo.sees] == [["Cleo"], ["Bob"]]

    def test_a_round_without_changes_is_silent(self, rounds: AwarenessRelay) -> None:
        ann, bob = (Device(rounds, number).join() for number in (31, 32))
        bob.say(BOB)
        rounds.send_round()
        rounds.send_round()
        assert len(ann.heard) == 1
        bob.leave()
        rounds.send_round()
        rounds.send_round()
        assert len(ann.heard) == 2

    def test_one_that_takes_its_state_back_and_leaves_within_a_round_is_gone(self, rounds: AwarenessRelay) -> None:
        ann, bob = (Device(rounds, number).join() for number in (31, 32))
        bob.say(BOB)
        rounds.send_round()
        bob.say(None)
        bob.leave()
        rounds.send_round()
        assert ann.sees == []

    def test_one_that_comes_and_goes_within_a_round_is_not_there(self, rounds: AwarenessRelay) -> None:
        ann, bob = (Device(rounds, number).join() for number in (31, 32))
        bob.say(BOB)
        bob.leave()
        rounds.send_round()
        assert ann.sees == []

    def test_a_number_may_change_hands_within_a_round(self, rounds: AwarenessRelay) -> None:
        watcher, namesake, ann = (Device(rounds, number).join() for number in (2, 1, 1))
        ann.say(ANN)
        namesake.say(CLEO)
        rounds.send_round()
        namesake.leave()
        bob = Device(rounds, 1).join()
        bob.say(BOB)
        rounds.send_round()
        assert watcher.sees == ["Ann", "Bob"]
        assert ann.sees == ["Bob"]
        assert bob.sees == ["Ann"]

    def test_the_wake_is_called_when_a_round_is_due(self) -> None:
        woken: list[None] = []
        relay = AwarenessRelay(wake=lambda: woken.append(None))
        bob = Device(relay, 32).join()
        assert woken == []
        bob.say(BOB)
        assert len(woken) == 1
        bob.leave()
        assert len(woken) == 2

    def test_a_state_that_never_changes_is_repeated_before_clients_forget_it(self, rounds: AwarenessRelay) -> None:
        ann, bob = (Device(rounds, number).join() for number in (31, 32))
        bob.say(BOB)
        rounds.send_round(100.0)
        rounds.refresh(100.0 + REFRESH_AFTER_S - 0.1)
        rounds.send_round(100.0 + REFRESH_AFTER_S - 0.1)
        assert len(ann.heard) == 1
        rounds.refresh(100.0 + REFRESH_AFTER_S)
        rounds.send_round(100.0 + REFRESH_AFTER_S)
        assert [message["states"] for message in ann.heard] == [{"32": BOB}] * 2


commands = st.lists(
    st.tuples(st.sampled_from(["join", "say", "say", "clear", "leave", "round"]), st.integers(0, 5)), max_size=40
)


@example([1, 1 << 32, 1, 1, 1, 1 << 32], [("join", 5), ("say", 5), ("join", 1)])
@given(st.lists(st.sampled_from([1, 1, 1, 2, 3, 1 << 32]), min_size=6, max_size=6), commands)
def test_whoever_comes_speaks_and_goes_all_see_exactly_the_others(
    own_ids: list[int], commands: list[tuple[str, int]]
) -> None:
    relay = AwarenessRelay(wake=lambda: None)
    room: dict[int, Device] = {}
    states: dict[int, Any] = {}
    for number, (command, place) in enumerate(commands):
        device = room.get(place)
        if command == "round":
            relay.send_round()
        elif command == "join" and device is None:
            room[place] = Device(relay, own_ids[place]).join()
        elif command == "leave" and device is not None:
            room.pop(place).leave()
            states.pop(place, None)
        elif command in ("say", "clear") and device is not None:
            states[place] = {"user": {"name": f"{place}-{number}"}} if command == "say" else None
            device.say(states[place])
    relay.send_round()
    for place, device in room.items():
        others = [state["user"]["name"] for other, state in states.items() if other != place and state is not None]
        assert device.sees == sorted(others)


async def no_records(_keys: object) -> dict[Any, Any]:
    return {}


async def test_the_rooms_send_rounds_as_they_become_due(autojump_clock: trio.testing.MockClock) -> None:
    rooms = AwarenessRooms(Lookups(Hub(0), no_records), max_state_bytes=1_000)
    ann, bob = (Device(rooms.unrestricted, number).join() for number in (31, 32))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rooms.run)
        for state in (ANN, BOB):
            bob.say(state)
        await trio.sleep(1)
        assert [message["states"] for message in ann.heard] == [{"32": BOB}]
        await trio.sleep(2 * REFRESH_AFTER_S)
        assert 2 <= len(ann.heard) <= 3
        nursery.cancel_scope.cancel()
