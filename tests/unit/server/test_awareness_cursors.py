"""Rooms where cursors are judged: everybody hears of the cursors that it, and whoever has them, may see."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from kora_daemon.model.record import RecordKey
from kora_daemon.model.scope import ScopeMap
from kora_daemon.server.awareness import REFRESH_AFTER_S, AwarenessRelay
from kora_daemon.server.lookups import Known, Lookups, Then
from tests.support.presence import Device, raw

ALI: ScopeMap = {"notes": {"ownerId": "ali"}}
BEA: ScopeMap = {"notes": {"ownerId": "bea"}}
ALL: ScopeMap = {"notes": {}}


class Book(Lookups):
    """Look-ups whose answers a test gives."""

    def __init__(self) -> None:
        self.records: dict[RecordKey, dict[str, Any] | None] = {}
        self.asked: list[tuple[RecordKey, Then]] = []

    def known(self, key: RecordKey) -> Known:
        return self.records.get(key, UNSET)

    def ask(self, key: RecordKey, then: Then) -> None:
        self.asked.append((key, then))

    def answer(self, answer: Known) -> None:
        """What waits is answered, and remembered unless there is no answer."""
        asked, self.asked = self.asked, []
        for _, then in asked:
            then(answer)

    def note(self, number: int, owner: str) -> None:
        self.records[RecordKey("notes", f"n{number}")] = {"ownerId": owner}


class Room:
    """A room with its book, and devices that come in with scopes."""

    def __init__(self) -> None:
        self.book = Book()
        self.relay = AwarenessRelay(wake=lambda: None, lookups=self.book)

    def come(self, own_id: int, scopes: ScopeMap | None) -> Device:
        device = Device(self.relay, own_id)
        self.relay.add_client(device.client, own_id, device.hear, scopes)
        return device


@pytest.fixture
def room() -> Room:
    return Room()


def at(name: str, number: int | None = None) -> dict[str, Any]:
    state: dict[str, Any] = {"user": {"name": name}}
    if number is not None:
        state["cursor"] = {"collection": "notes", "recordId": f"n{number}", "anchor": 1}
    return state


def cursors(device: Device) -> dict[str, str | None]:
    return {state["user"]["name"]: state.get("cursor", {}).get("recordId") for state in device.others.values()}


class TestOneRecord:
    """A cursor in a record, and those who may or may not see that."""

    def test_each_hears_what_it_may_see(self, room: Room) -> None:
        room.book.note(1, "ali")
        speaker, ali, bea, both = (room.come(n, s) for n, s in enumerate((ALI, ALI, BEA, ALL), 1))
        speaker.say(at("Speaker", 1))
        room.relay.send_round()
        assert [cursors(one) for one in (ali, bea, both)] == [{"Speaker": "n1"}, {"Speaker": None}, {"Speaker": "n1"}]
        assert speaker.heard == []

    def test_those_who_see_the_same_get_the_same_frame(self, room: Room) -> None:
        room.book.note(1, "ali")
        speaker, *others = (room.come(n, s) for n, s in enumerate((ALI, ALI, BEA, ALI, BEA), 1))
        speaker.say(at("Speaker", 1))
        room.relay.send_round()
        frames = [device.frames[0] for device in others]
        assert frames[0] is frames[2]
        assert frames[1] is frames[3]
        assert frames[0] is not frames[1]

    def test_where_the_speaker_can_not_be_nobody_hears_of(self, room: Room) -> None:
        room.book.note(1, "bea")
        speaker, ali, bea, both = (room.come(n, s) for n, s in enumerate((ALI, ALI, BEA, ALL), 1))
        speaker.say(at("Speaker", 1))
        room.relay.send_round()
        assert [cursors(one) for one in (ali, bea, both)] == [{"Speaker": None}] * 3

    def test_a_record_that_is_not_there_is_not_seen_but_in_an_open_collection(self, room: Room) -> None:
        room.book.records[RecordKey("notes", "n1")] = None
        ann, ali, both = room.come(1, ALL), room.come(2, ALI), room.come(3, ALL)
        ann.say(at("Ann", 1))
        room.relay.send_round()
        assert [cursors(ali), cursors(both)] == [{"Ann": None}, {"Ann": "n1"}]

    def test_who_comes_later_is_judged_like_the_others(self, room: Room) -> None:
        room.book.note(1, "ali")
        room.come(1, ALI).say(at("Ann", 1))
        room.relay.send_round()
        assert [cursors(room.come(2, ALI)), cursors(room.come(3, BEA))] == [{"Ann": "n1"}, {"Ann": None}]
        room.book.note(1, "bea")
        assert cursors(room.come(4, ALI)) == {"Ann": None}

    def test_repeating_a_state_judges_it_again(self, room: Room) -> None:
        room.book.note(1, "ali")
        ann, ben = room.come(1, ALI), room.come(2, ALI)
        ann.say(at("Ann", 1))
        room.relay.send_round(0)
        assert cursors(ben) == {"Ann": "n1"}
        room.book.note(1, "bea")
        room.relay.refresh(REFRESH_AFTER_S)
        room.relay.send_round(REFRESH_AFTER_S)
        assert cursors(ben) == {"Ann": None}


class TestLookingUp:
    """Until it is known what a record is, nobody hears of a cursor in it."""

    def test_a_state_waits_for_its_record_alone(self, room: Room) -> None:
        ann, ben, cleo = (room.come(n, ALI) for n in (1, 2, 3))
        ann.say(at("Ann", 1))
        ben.say(at("Ben"))
        room.relay.send_round()
        assert cursors(cleo) == {"Ben": None}
        room.relay.send_round()
        assert len(room.book.asked) == 1
        room.book.note(1, "ali")
        room.book.answer({"ownerId": "ali"})
        room.relay.send_round()
        assert cursors(cleo) == {"Ann": "n1", "Ben": None}

    def test_an_answer_that_does_not_hold_until_the_round_is_asked_for_again(self, room: Room) -> None:
        ann, ben = room.come(1, ALI), room.come(2, ALI)
        ann.say(at("Ann", 1))
        room.relay.send_round()
        room.book.answer({"ownerId": "ali"})
        room.relay.send_round()
        assert (ben.heard, len(room.book.asked)) == ([], 1)
        room.book.note(1, "ali")
        room.book.answer({"ownerId": "ali"})
        room.relay.send_round()
        assert cursors(ben) == {"Ann": "n1"}

    def test_an_answer_about_another_record_does_not_count(self, room: Room) -> None:
        ann, ben = room.come(1, ALI), room.come(2, ALI)
        ann.say(at("Ann", 1))
        room.relay.send_round()
        ann.say(at("Ann", 2))
        room.relay.send_round()
        room.book.answer({"ownerId": "ali"})
        room.relay.send_round()
        assert (ben.heard, [key.record_id for key, _ in room.book.asked]) == ([], ["n2"])
        room.book.note(2, "bea")
        room.book.answer({"ownerId": "bea"})
        room.relay.send_round()
        assert cursors(ben) == {"Ann": None}

    def test_without_an_answer_the_state_goes_without_the_cursor_until_it_is_said_or_repeated_again(
        self, room: Room
    ) -> None:
        ann, ben = room.come(1, ALI), room.come(2, ALI)
        ann.say(at("Ann", 1))
        room.relay.send_round()
        room.book.answer(UNSET)
        room.relay.send_round(0)
        assert cursors(ben) == {"Ann": None}
        room.relay.refresh(REFRESH_AFTER_S)
        room.relay.send_round(REFRESH_AFTER_S)
        assert len(room.book.asked) == 1

    def test_one_that_left_or_took_it_back_meanwhile_says_nothing(self, room: Room) -> None:
        ann, ben, cleo = (room.come(n, ALI) for n in (1, 2, 3))
        ann.say(at("Ann", 1))
        ben.say(at("Ben", 1))
        room.relay.send_round()
        ann.leave()
        ben.say(None)
        room.relay.send_round()
        heard = len(cleo.heard)
        room.book.answer({"ownerId": "ali"})
        room.relay.send_round()
        assert (cleo.others, len(cleo.heard)) == ({}, heard)

    def test_a_newcomer_is_told_of_those_who_are_known_and_later_of_the_others(self, room: Room) -> None:
        room.book.note(1, "ali")
        ann, ben = room.come(1, ALI), room.come(2, ALI)
        ann.say(at("Ann", 1))
        ben.say(at("Ben"))
        room.relay.send_round()
        room.book.records.clear()
        cleo = room.come(3, ALI)
        assert cursors(cleo) == {"Ben": None}
        room.book.note(1, "ali")
        room.book.answer({"ownerId": "ali"})
        room.relay.send_round()
        assert cursors(cleo) == {"Ann": "n1", "Ben": None}


class TestOtherDaemons:
    """What may be said is judged here, what may be heard there."""

    def test_others_are_told_what_the_speaker_may_say(self, room: Room) -> None:
        told: list[tuple[int, Any]] = []
        room.relay.abroad = lambda client, state: told.append((client, state and json.loads(bytes(state))))
        room.book.note(1, "ali")
        ann, ben = room.come(1, ALI), room.come(2, BEA)
        for device in (ann, ben):
            device.say(at("x", 1))
        assert told == []
        room.relay.send_round()
        ann.leave()
        ann.leave()
        room.relay.send_round()
        ben.say(None)
        room.relay.send_round()
        a, b = ann.client, ben.client
        assert told == [(a, at("x", 1)), (b, at("x")), (a, None), (b, None)]

    def test_what_comes_from_there_is_judged_for_who_hears_it(self, room: Room) -> None:
        room.book.note(1, "ali")
        ali, bea = room.come(1, ALI), room.come(2, BEA)
        room.relay.add_distant("other/1", raw(at("Ann", 1)))
        room.relay.send_round()
        assert [cursors(ali), cursors(bea)] == [{"Ann": "n1"}, {"Ann": None}]
        assert cursors(room.come(3, BEA)) == {"Ann": None}


class TestSlowReaders:
    """Who does not read is told later, everything at once."""

    def test_what_was_missed_is_told_once_it_reads_again(self) -> None:
        relay = AwarenessRelay(wake=lambda: None)
        ann, ben = Device(relay, 1).join(), Device(relay, 2)
        reads = False
        relay.add_client(ben.client, 2, lambda frame: reads and ben.hear(frame) is None)
        ann.say(at("Ann"))
        relay.send_round(0)
        relay.refresh(1)
        assert ben.heard == []
        reads = True
        for _ in range(2):
            relay.refresh(2)
        assert [one["states"] for one in ben.heard] == [{"1": at("Ann")}]

    def test_nobody_being_there_any_more_nothing_is_told(self) -> None:
        relay = AwarenessRelay(wake=lambda: None)
        ann, ben = Device(relay, 1).join(), Device(relay, 2)
        reads = False
        relay.add_client(ben.client, 2, lambda frame: reads and ben.hear(frame) is None)
        ann.say(at("Ann"))
        relay.send_round(0)
        ann.leave()
        relay.send_round(0)
        reads = True
        relay.refresh(1)
        assert ben.heard == []


SCOPES: list[ScopeMap] = [{}, ALI, BEA, ALL, {"todos": {}}]
OWNERS = ["ali", "bea", "cleo"]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.integers(0, 4), st.sampled_from(SCOPES)),
        st.tuples(st.just("say"), st.integers(0, 4), st.sampled_from([None, 1, 2, 3])),
        st.tuples(st.just("own"), st.integers(1, 3), st.sampled_from(OWNERS)),
        st.tuples(st.sampled_from(["leave", "round", "answer"]), st.integers(0, 4), st.none()),
    ),
    max_size=60,
)


@given(steps)
def test_at_the_end_all_see_exactly_what_they_may(steps: list[tuple[str, int, Any]]) -> None:
    room = Room()
    devices: dict[int, tuple[Device, ScopeMap]] = {}
    states: dict[int, int | None] = {}
    owners: dict[int, str] = {}

    def answer() -> None:
        asked, room.book.asked = room.book.asked, []
        for key, then in asked:
            owner = owners.get(int(key.record_id[1:]))
            room.book.records[key] = None if owner is None else {"ownerId": owner}
            then(room.book.records[key])

    for step, place, what in steps:
        if step == "come" and place not in devices:
            devices[place] = (room.come(place, what), what)
        elif step == "leave" and place in devices:
            devices.pop(place)[0].leave()
            states.pop(place, None)
        elif step == "say" and place in devices:
            devices[place][0].say(at(str(place), what))
            states[place] = what
        elif step == "own":
            owners[place] = what
            room.book.records.pop(RecordKey("notes", f"n{place}"), None)
        elif step == "round":
            room.relay.send_round()
        elif step == "answer":
            answer()
    for now in (100.0, 101.0, 102.0):
        room.relay.refresh(now)
        room.relay.send_round(now)
        answer()
    room.relay.send_round(103.0)

    def may_see(scopes: ScopeMap, number: int) -> bool:
        where = scopes.get("notes")
        return where is not None and (not where or owners.get(number) == where["ownerId"])

    for place, (device, scopes) in devices.items():
        expected = {
            str(other): f"n{number}"
            if number and may_see(scopes, number) and may_see(devices[other][1], number)
            else None
            for other, number in states.items()
            if other != place
        }
        assert cursors(device) == expected
