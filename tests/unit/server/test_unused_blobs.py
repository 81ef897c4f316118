"""What users may upload before a record refers to it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kora_daemon.errors import StoreUnavailable
from kora_daemon.server import unused_blobs as module
from kora_daemon.server.unused_blobs import UnusedBlobs

NAMES = [f"{number:064x}" for number in range(20)]


class Ledger:
    """Of 100 bytes for each user, and records that refer to some of it."""

    def __init__(self, max_bytes: int = 100) -> None:
        self.referred: set[str] = set()
        self.questions: list[str] = []
        self.unused = UnusedBlobs(max_bytes, self.is_settled)

    def is_settled(self, hexadecimal: str) -> bool:
        self.questions.append(hexadecimal)
        return hexadecimal in self.referred

    def brings(self, name: str, size_bytes: int, user: str = "ali", parts: list[str] | None = None) -> bool:
        allowed = self.unused.charge(user, name, size_bytes)
        if allowed:
            self.unused.stored(user, name, parts or [])
        return allowed


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setattr(module, "CHECK_INTERVAL_S", 0)
    return Ledger()


def test_each_user_has_so_much(ledger: Ledger) -> None:
    assert [ledger.brings(name, 40) for name in NAMES[:3]] == [True, True, False]
    assert ledger.brings(NAMES[3], 100, "bea")
    assert ledger.brings(NAMES[4], 20)
    assert not ledger.brings(NAMES[5], 1)


def test_nobody_is_asked_as_long_as_there_is_room(ledger: Ledger) -> None:
    ledger.brings(NAMES[0], 100)
    assert ledger.questions == []


def test_what_a_record_refers_to_does_not_count(ledger: Ledger) -> None:
    ledger.brings(NAMES[0], 60)
    ledger.brings(NAMES[1], 40)
    assert not ledger.brings(NAMES[2], 1)
    ledger.referred.add(NAMES[0])
    assert ledger.brings(NAMES[2], 60)
    assert not ledger.brings(NAMES[3], 1)


def test_parts_are_settled_with_their_manifest_and_not_asked_about(ledger: Ledger) -> None:
    for name in NAMES[:3]:
        ledger.brings(name, 30)
    ledger.brings(NAMES[3], 10, parts=[NAMES[0], NAMES[1], NAMES[9]])
    assert not ledger.brings(NAMES[4], 1)
    assert set(ledger.questions) == {NAMES[2], NAMES[3]}
    ledger.referred.add(NAMES[3])
    assert ledger.brings(NAMES[4], 70)
    assert not ledger.brings(NAMES[5], 1)


def test_what_is_only_on_its_way_is_not_asked_about(ledger: Ledger) -> None:
    ledger.unused.charge("ali", NAMES[0], 100)
    ledger.referred.add(NAMES[0])
    assert not ledger.brings(NAMES[1], 1)
    ledger.unused.stored("ali", NAMES[0], [])
    assert ledger.brings(NAMES[1], 100)


def test_what_was_not_kept_is_given_back(ledger: Ledger) -> None:
    ledger.unused.charge("ali", NAMES[0], 100)
    ledger.unused.refund("ali", NAMES[0])
    ledger.unused.refund("nobody", NAMES[0])
    assert ledger.brings(NAMES[1], 100)
    assert ledger.brings(NAMES[1], 100)


def test_zero_is_any_number() -> None:
    ledger = Ledger(0)
    assert all(ledger.brings(name, 1 << 40) for name in NAMES)


def test_the_question_is_asked_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHECK_INTERVAL_S", 1_000)
    ledger = Ledger()
    ledger.brings(NAMES[0], 100)
    for _ in range(5):
        assert not ledger.brings(NAMES[1], 1)
    assert ledger.questions == [NAMES[0]]


def test_a_store_that_does_not_answer_is_told_of(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_hexadecimal: str) -> bool:
        raise StoreUnavailable("gone")

    ledger.brings(NAMES[0], 100)
    monkeypatch.setattr(ledger.unused, "_is_settled", gone)
    with pytest.raises(StoreUnavailable):
        ledger.brings(NAMES[1], 1)


class TestMemory:
    """Names cost something, too."""

    def test_of_one_user(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MAX_NAMES_OF_A_USER", 3)
        assert [ledger.brings(name, 1) for name in NAMES[:4]] == [True, True, True, False]

    def test_of_all(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who has uploaded something longest ago is forgotten first."""
        monkeypatch.setattr(module, "MAX_NAMES", 5)
        for number, user in enumerate(("ali", "ali", "bea", "bea", "ali", "cem", "cem")):
            assert ledger.brings(NAMES[number], 30, user)
        assert not ledger.brings(NAMES[11], 20, "ali")
        assert ledger.brings(NAMES[10], 100, "bea")

    @pytest.mark.parametrize("late", [UnusedBlobs.refund, lambda unused, *one: unused.stored(*one, [])])
    def test_what_is_forgotten_may_still_be_spoken_of(
        self, ledger: Ledger, late: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MAX_NAMES", 1)
        ledger.unused.charge("ali", NAMES[0], 1)
        ledger.unused.charge("bea", NAMES[1], 1)
        late(ledger.unused, "ali", NAMES[0])
        assert ledger.unused._count == 1
