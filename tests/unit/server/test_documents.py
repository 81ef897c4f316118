"""Document updates: who is heard by whom, in which order, and what happens when the record has to be looked up."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import UNSET

from kora_daemon.model.record import RecordKey
from kora_daemon.model.scope import READ_ONLY, ScopeMap
from kora_daemon.protocol.messages import DocumentUpdate
from kora_daemon.server import documents as module
from kora_daemon.server.documents import DocumentRelay
from kora_daemon.server.hub import Hub
from kora_daemon.server.lookups import Known, Lookups, Then
from tests.support.peers import FakePeer

ALI: ScopeMap = {"notes": {"ownerId": "ali"}}
VIEWER: ScopeMap = {"notes": {"ownerId": "ali", READ_ONLY: True}}
BEA: ScopeMap = {"notes": {"ownerId": "bea"}}
ALIS = {"ownerId": "ali"}


class Book(Lookups):
    """Look-ups that a test answers."""

    def __init__(self) -> None:
        self.records: dict[RecordKey, dict[str, Any] | None] = {}
        self.asked: list[tuple[RecordKey, Then]] = []
        self.remembers = True

    def known(self, key: RecordKey) -> Known:
        return self.records.get(key, UNSET)

    def ask(self, key: RecordKey, then: Then) -> None:
        self.asked.append((key, then))

    def answer(self, answer: Known) -> None:
        asked, self.asked = self.asked, []
        for key, _ in asked:
            if answer is not UNSET and self.remembers:
                self.records[key] = answer  # type: ignore[assignment]
        for _, then in asked:
            then(answer)


class Scene:
    """Sessions and what is told abroad."""

    def __init__(self) -> None:
        self.hub = Hub(0)
        self.book = Book()
        self.relay = DocumentRelay(self.hub, self.book)
        self.told: list[str] = []
        self.relay.abroad = lambda update: self.told.append(update.update)

    def come(self, scopes: ScopeMap | None) -> FakePeer:
        peer = FakePeer(scopes)
        self.hub.join(peer)
        return peer

    def type(self, sender: FakePeer, text: str, record_id: str = "n1", collection: str = "notes") -> None:
        self.relay.share(sender, DocumentUpdate("m", collection, record_id, "body", text))


@pytest.fixture
def scene() -> Scene:
    return Scene()


def texts(peer: FakePeer) -> list[str]:
    return [message["update"] for message in peer.heard]


def test_without_scopes_nothing_is_looked_up(scene: Scene) -> None:
    one, other = scene.come(None), scene.come(None)
    scene.type(one, "a")
    assert (texts(one), texts(other), scene.told, scene.book.asked) == ([], ["a"], ["a"], [])


def test_nor_where_scopes_say_it_themselves(scene: Scene) -> None:
    one, viewer, hidden, empty = (scene.come(s) for s in ({"notes": {}}, {"notes": {READ_ONLY: True}}, {"a": {}}, {}))
    scene.type(one, "a")
    for peer in (viewer, hidden, empty):
        scene.type(peer, "b")
    assert [texts(peer) for peer in (one, viewer, hidden, empty)] == [[], ["a"], [], []]
    assert (scene.told, scene.book.asked) == (["a"], [])


def test_who_sees_everything_does_not_wait_for_those_who_do_not(scene: Scene) -> None:
    admin, other, ali, bea = (scene.come(s) for s in (None, None, ALI, BEA))
    scene.type(admin, "a")
    assert (texts(other), texts(ali), scene.told) == (["a"], [], ["a"])
    scene.book.answer(ALIS)
    assert [texts(peer) for peer in (other, ali, bea)] == [["a"], ["a"], []]


def test_what_may_not_be_edited_is_told_to_nobody(scene: Scene) -> None:
    senders = [scene.come(s) for s in (BEA, VIEWER)]
    hearers = [scene.come(s) for s in (None, ALI, BEA)]
    for sender in senders:
        scene.type(sender, "a")
    scene.book.answer(ALIS)
    assert [texts(peer) for peer in [*senders, *hearers]] == [[]] * 5
    assert scene.told == []


def test_with_the_record_at_hand_all_happens_at_once(scene: Scene) -> None:
    scene.book.records[RecordKey("notes", "n1")] = ALIS
    ali, viewer, admin, bea = (scene.come(s) for s in (ALI, VIEWER, None, BEA))
    scene.type(ali, "a")
    assert [texts(peer) for peer in (viewer, admin, bea)] == [["a"], ["a"], []]
    assert (scene.told, scene.book.asked) == (["a"], [])


@pytest.mark.parametrize("remembers", [True, False])
def test_updates_of_one_document_stay_in_order_whoever_sends_them(scene: Scene, remembers: bool) -> None:
    scene.book.remembers = remembers
    ali, other, admin = scene.come(ALI), scene.come(ALI), scene.come(None)
    for number in range(3):
        scene.type(ali, f"{number}")
        scene.type(admin, f"admin {number}")
    scene.book.answer(ALIS)
    scene.type(ali, "3")
    scene.book.answer(ALIS)
    assert texts(other) == ["0", "admin 0", "1", "admin 1", "2", "admin 2", "3"]
    assert texts(admin) == ["0", "1", "2", "3"]


def test_without_an_answer_they_are_dropped(scene: Scene) -> None:
    ali, other, admin = scene.come(ALI), scene.come(ALI), scene.come(None)
    scene.type(ali, "a")
    scene.type(admin, "b")
    scene.book.answer(UNSET)
    assert [texts(peer) for peer in (other, admin)] == [[], []]
    assert not scene.relay._held


def test_a_sender_is_judged_by_the_scopes_it_has_then(scene: Scene) -> None:
    ali, other = scene.come(ALI), scene.come(ALI)
    scene.type(ali, "a")
    ali.scopes = VIEWER
    scene.book.answer(ALIS)
    assert texts(other) == []


def test_a_hearer_is_judged_by_the_scopes_it_has_then(scene: Scene) -> None:
    admin, ali = scene.come(None), scene.come(ALI)
    scene.type(admin, "a")
    ali.scopes = BEA
    scene.book.answer(ALIS)
    assert texts(ali) == []


def test_what_comes_from_other_daemons_is_judged_for_its_hearers_and_not_told_again(scene: Scene) -> None:
    admin, ali, bea = (scene.come(s) for s in (None, ALI, BEA))
    scene.relay.hear(DocumentUpdate("m", "notes", "n1", "body", "a"))
    scene.book.answer(ALIS)
    assert [texts(peer) for peer in (admin, ali, bea)] == [["a"], ["a"], []]
    assert scene.told == []


class TestLimits:
    """What waits is bounded, per sender and in all."""

    def test_an_update_has_a_limit(self, scene: Scene) -> None:
        admin, other = scene.come(None), scene.come(None)
        scene.type(admin, "x" * module.MAX_UPDATE_LENGTH)
        scene.type(admin, "x" * (module.MAX_UPDATE_LENGTH + 1))
        assert len(other.heard) == 1

    def test_a_sender_has_a_number_of_them_waiting(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MAX_HELD_OF_A_SENDER", 3)
        ali, other, admin = scene.come(ALI), scene.come(ALI), scene.come(None)
        for number in range(5):
            scene.type(ali, str(number), f"n{number}")
        scene.type(other, "other", "n9")
        scene.book.answer(ALIS)
        assert texts(admin) == ["0", "1", "2", "other"]
        scene.type(ali, "again", "n7")
        scene.book.answer(ALIS)
        assert texts(admin)[-1] == "again"

    def test_and_so_many_bytes(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MAX_HELD_BYTES_OF_A_SENDER", 10)
        monkeypatch.setattr(module, "MAX_HELD_BYTES", 15)
        ali, other, admin = scene.come(ALI), scene.come(ALI), scene.come(None)
        for sender in (ali, other):
            scene.type(sender, "x" * 11)
            scene.type(sender, "x" * 8)
            scene.type(sender, "x" * 3)
        scene.book.answer(ALIS)
        assert [len(text) for text in texts(admin)] == [8, 3]
        assert not scene.relay._held_bytes
