"""Presence: everybody hears everybody else, under numbers that mean one client each (wire.md section 9)."""

from __future__ import annotations

import json

import pytest
from msgspec import Raw

from kora_daemon.server.awareness import AwarenessRelay
from tests.support.presence import ANN, BOB, CLEO, Device, raw


@pytest.fixture
def relay() -> AwarenessRelay:
    """A room that passes everything on at once."""
    return AwarenessRelay()


class TestARoom:
    """Joining, speaking, leaving."""

    def test_the_first_state_is_heard_by_nobody(self, relay: AwarenessRelay) -> None:
        ann = Device(relay, 31).join()
        assert ann.say(ANN)
        assert ann.heard == []

    def test_who_joins_is_told_at_once_who_is_here(self, relay: AwarenessRelay) -> None:
        Device(relay, 31).join().say(ANN)
        Device(relay, 32).join().say(BOB)
        Device(relay, 33).join()
        cleo = Device(relay, 34).join()
        [catch_up] = cleo.heard
        assert catch_up["clientId"] == 0
        assert catch_up["states"] == {"31": ANN, "32": BOB}

    def test_in_an_empty_room_there_is_no_catch_up(self, relay: AwarenessRelay) -> None:
        Device(relay, 31).join()
        assert Device(relay, 32).join().heard == []

    def test_joining_again_changes_nothing(self, relay: AwarenessRelay) -> None:
        Device(relay, 31).join().say(ANN)
        bob = Device(relay, 32).join()
        bob.say(BOB)
        bob.join()
        assert len(bob.heard) == 1
        assert set(relay.get_states()) == {31, 32}

    def test_an_update_is_heard_by_all_others_and_not_echoed(self, relay: AwarenessRelay) -> None:
        ann, bob, cleo = (Device(relay, number).join() for number in (31, 32, 33))
        bob.say(BOB)
        for device in (ann, cleo):
            [update] = device.heard
            assert (update["clientId"], update["states"]) == (32, {"32": BOB})
        assert bob.heard == []

    def test_those_who_hear_the_same_get_the_same_frame(self, relay: AwarenessRelay) -> None:
        ann, bob, cleo = (Device(relay, number).join() for number in (31, 32, 33))
        bob.say(BOB)
        assert ann.frames[0] is cleo.frames[0]

    def test_a_client_that_leaves_is_gone_for_the_others(self, relay: AwarenessRelay) -> None:
        ann, bob = (Device(relay, number).join() for number in (31, 32))
        bob.say(BOB)
        bob.leave()
        assert (ann.heard[-1]["clientId"], ann.heard[-1]["states"]) == (32, {"32": None})
        assert relay.get_states() == {}

    def test_one_that_never_had_a_state_leaves_without_a_word(self, relay: AwarenessRelay) -> None:
        ann, bob = (Device(relay, number).join() for number in (31, 32))
        bob.leave()
        assert ann.heard == []

    def test_leaving_twice_or_never_having_been_here_is_nothing(self, relay: AwarenessRelay) -> None:
        ann, bob = (Device(relay, number).join() for number in (31, 32))
        bob.say(BOB)
        bob.leave()
        bob.leave()
        Device(relay, 40).leave()
        assert len(ann.heard) == 2

    def test_a_state_can_be_taken_back(self, relay: AwarenessRelay) -> None:
        ann, bob = (Device(relay, number).join() for number in (31, 32))
        bob.say(BOB)
        assert bob.say(None)
        assert ann.sees == []
        assert Device(relay, 33).join().heard == []

    def test_states_are_passed_on_as_they_came(self, relay: AwarenessRelay) -> None:
        ann, bob = (Device(relay, number).join() for number in (31, 32))
        text = b'{"user": {"name":"B\xc3\xb6b"}, "n":1.50,"big":1e400}'
        relay.handle_update(bob.client, 32, {"32": Raw(text)})
        assert b'"32":' + text in ann.frames[0].payload
        assert relay.get_states() == {32: text}


class TestWhatIsOfNoUse:
    """Updates that are passed over."""

    def test_nobody_speaks_for_somebody_else(self, relay: AwarenessRelay) -> None:
        ann, bob = (Device(relay, number).join() for number in (31, 32))
        ann.say(ANN)
        assert relay.handle_update(bob.client, 32, {"31": raw(CLEO), "32": raw(BOB), "77": raw(CLEO)})
        assert relay.get_states() == {31: json.dumps(ANN).encode(), 32: json.dumps(BOB).encode()}
        assert ann.sees == ["Bob"]

    def test_an_update_without_an_entry_of_its_own_is_nothing(self, relay: AwarenessRelay) -> None:
        ann, bob = (Device(relay, number).join() for number in (31, 32))
        assert not relay.handle_update(bob.client, 32, {"31": raw(CLEO)})
        assert not relay.handle_update(bob.client, 32, {})
        assert ann.heard == []

    def test_who_has_not_joined_is_not_heard(self, relay: AwarenessRelay) -> None:
        ann = Device(relay, 31).join()
        assert not Device(relay, 32).say(BOB)
        assert ann.heard == []

    @pytest.mark.parametrize("state", [5, "here", True, [ANN]])
    def test_a_state_is_an_object_or_null(self, relay: AwarenessRelay, state: object) -> None:
        ann, bob = (Device(relay, number).join() for number in (31, 32))
        assert not bob.say(state)
        assert ann.heard == []

    def test_a_state_has_a_size_limit_and_the_last_good_one_stays(self) -> None:
        relay = AwarenessRelay(max_state_bytes=100)
        ann, bob = (Device(relay, number).join() for number in (31, 32))
        exact = {"user": {"name": "Bob", "p": ""}}
        exact["user"]["p"] = "x" * (100 - len(json.dumps(exact)))
        assert bob.say(exact)
        exact["user"]["p"] += "x"
        assert not bob.say(exact)
        assert len(ann.heard) == 1


class TestNumbers:
    """Every client counts from 1: two browsers have the same number, and must see each other all the same."""

    def test_clients_of_one_number_see_each_other(self, relay: AwarenessRelay) -> None:
        devices = [Device(relay, 1).join() for _ in range(3)]
        for device, state in zip(devices, (ANN, BOB, CLEO), strict=True):
            device.say(state)
        assert [device.sees for device in devices] == [["Bob", "Cleo"], ["Ann", "Cleo"], ["Ann", "Bob"]]

    def test_a_late_one_of_the_same_number_sees_who_is_here(self, relay: AwarenessRelay) -> None:
        Device(relay, 1).join().say(ANN)
        Device(relay, 1).join().say(BOB)
        assert Device(relay, 1).join().sees == ["Ann", "Bob"]

    def test_changes_and_departures_keep_the_number(self, relay: AwarenessRelay) -> None:
        ann, bob, other = (Device(relay, number).join() for number in (1, 1, 2))
        for device, state in ((ann, ANN), (bob, BOB), (bob, CLEO), (ann, BOB)):
            device.say(state)
        assert (ann.sees, bob.sees, other.sees) == (["Cleo"], ["Bob"], ["Bob", "Cleo"])
        bob.leave()
        assert (ann.sees, other.sees) == ([], ["Bob"])
        ann.leave()
        assert other.sees == []

    def test_the_first_keeps_its_number(self, relay: AwarenessRelay) -> None:
        Device(relay, 1).join().say(ANN)
        Device(relay, 1).join().say(BOB)
        assert sorted(relay.get_states())[0] == 1
        assert len(relay.get_states()) == 2

    def test_a_number_is_free_again_when_its_client_left(self, relay: AwarenessRelay) -> None:
        ann = Device(relay, 1).join()
        ann.leave()
        bob = Device(relay, 1).join()
        bob.say(BOB)
        assert list(relay.get_states()) == [1]

    @pytest.mark.parametrize("own_id", [-1, 1 << 32, (1 << 32) + 1, (1 << 53) - 1, 1 << 53, 1 << 70])
    def test_a_number_out_of_range_is_replaced_so_that_nobody_else_can_have_it(
        self, relay: AwarenessRelay, own_id: int
    ) -> None:
        devices = [Device(relay, number).join() for number in (1, own_id, 1, 1, 2)]
        for device, name in zip(devices, "abcde", strict=True):
            device.say({"user": {"name": name}})
        numbers = list(relay.get_states())
        assert len(set(numbers)) == 5
        assert all(0 <= number < 1 << 53 for number in numbers)
        assert devices[4].sees == ["a", "b", "c", "d"]
        assert devices[2].sees == ["a", "b", "d", "e"]

    def test_zero_is_a_number_like_any_other(self, relay: AwarenessRelay) -> None:
        ann, bob = (Device(relay, number).join() for number in (0, 1))
        ann.say(ANN)
        assert bob.sees == ["Ann"]
