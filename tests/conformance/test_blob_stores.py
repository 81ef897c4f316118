"""Every blob store keeps what its contract promises."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kora_daemon.errors import StoreUnavailable
from kora_daemon.store.blobs.contract import ANYBODY, BlobStore, Kept, holder_of
from tests.support.blobs import ALI, BEA, BLOB_STORES, DAY_MS, NOW_MS, BlobKind, hashed, kept, put

CONTENT = b"a file"
NAME = hashed(CONTENT)
NO_HASHES = ["", "ab", NAME.upper(), f"{NAME}\n", f"{NAME}a", "../" + NAME[3:], "/" + NAME[1:], "ä" * 64, "\0" * 64]


@pytest.fixture(params=BLOB_STORES)
def kind(request: pytest.FixtureRequest) -> BlobKind:
    return BLOB_STORES[request.param]


@pytest.fixture
def blobs(kind: BlobKind, tmp_path: Path) -> Iterator[BlobStore]:
    made = kind(tmp_path)
    made.open()
    yield made
    made.close()


def test_what_was_put_is_there(blobs: BlobStore) -> None:
    assert (blobs.has(NAME), blobs.get(NAME), blobs.head(NAME, 3)) == (False, None, b"")
    assert put(blobs, CONTENT) is Kept.NEW
    assert (blobs.has(NAME), blobs.get(NAME), blobs.head(NAME, 3)) == (True, CONTENT, b"a f")


@pytest.mark.parametrize("content", [b"", bytes(range(256)), random.Random(7).randbytes(3 << 20)])
def test_any_bytes_will_do(blobs: BlobStore, content: bytes) -> None:
    put(blobs, content)
    assert blobs.get(hashed(content)) == content
    assert kept(blobs)[hashed(content)].size_bytes == len(content)
    assert blobs.head(hashed(content), 1 << 30) == content


def test_what_is_too_large_is_not_read(blobs: BlobStore) -> None:
    put(blobs, CONTENT)
    assert (blobs.get(NAME, len(CONTENT)), blobs.get(NAME, len(CONTENT) - 1)) == (CONTENT, None)
    assert blobs.has(NAME)


def test_equal_contents_are_one(blobs: BlobStore) -> None:
    assert [put(blobs, CONTENT), put(blobs, CONTENT), put(blobs, b"another")] == [Kept.NEW, Kept.KNOWN, Kept.NEW]
    assert {entry.size_bytes for entry in kept(blobs).values()} == {6, 7}


def test_it_outlives_the_store_object(kind: BlobKind, blobs: BlobStore) -> None:
    put(blobs, CONTENT)
    other = kind.another(blobs)
    other.open()
    assert other.get(NAME) == CONTENT
    assert other.held_by(NAME, [ALI]) == {ALI}
    blobs.close()
    other.close()


def test_who_has_it_is_told_apart(blobs: BlobStore) -> None:
    assert blobs.held_by(NAME, [ALI]) == set()
    put(blobs, CONTENT, holder=ALI)
    assert blobs.held_by(NAME, [ALI, BEA, ANYBODY]) == {ALI}
    put(blobs, CONTENT, holder=BEA)
    put(blobs, b"another", holder=ANYBODY)
    assert blobs.held_by(NAME, [ALI, BEA, ANYBODY]) == {ALI, BEA}
    assert blobs.held_by(NAME, []) == set()
    assert kept(blobs)[NAME].holders == {ALI, BEA}


@pytest.mark.parametrize("node_id", ["", "../../etc", "\0", "\ud800", "x" * 10_000, "a/b"])
def test_a_holder_may_be_called_anything(blobs: BlobStore, node_id: str) -> None:
    put(blobs, CONTENT, holder=holder_of(node_id))
    assert blobs.held_by(NAME, [holder_of(node_id), holder_of("somebody else")]) == {holder_of(node_id)}


@pytest.mark.parametrize("name", NO_HASHES)
def test_what_is_no_hash_is_refused(blobs: BlobStore, name: str) -> None:
    for call in (
        lambda: blobs.put(name, CONTENT, [ALI], NOW_MS),
        lambda: blobs.has(name),
        lambda: blobs.get(name),
        lambda: blobs.head(name, 1),
        lambda: blobs.held_by(name, [ALI]),
        lambda: blobs.mark(name, NOW_MS),
        lambda: blobs.delete(name, NOW_MS),
    ):
        with pytest.raises(ValueError, match="64 hexadecimal digits"):
            call()
    assert kept(blobs) == {}


def test_entries_come_by_hash_with_their_times(blobs: BlobStore) -> None:
    contents = [b"%d" % number for number in range(1_100)]
    for number, content in enumerate(contents[:50]):
        put(blobs, content, now_ms=NOW_MS + number)
    assert [entry.hash for entry in blobs.entries()] == sorted(map(hashed, contents[:50]))
    assert [kept(blobs)[hashed(content)].stored_at_ms - NOW_MS for content in contents[:50]] == list(range(50))


def test_all_of_many_are_listed(blobs: BlobStore) -> None:
    names = {hashed(b"%d" % number) for number in range(1_050)}
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: put(blobs, b"%d" % number), range(1_050)))
    assert {entry.hash for entry in blobs.entries()} == names


def test_a_mark_stays_until_it_is_taken_away(blobs: BlobStore) -> None:
    put(blobs, CONTENT)
    assert kept(blobs)[NAME].unused_since_ms is None
    blobs.mark(NAME, NOW_MS + 5)
    blobs.mark(hashed(b"none"), NOW_MS)
    assert {name: entry.unused_since_ms for name, entry in kept(blobs).items()} == {NAME: NOW_MS + 5}
    assert blobs.get(NAME) == CONTENT
    blobs.mark(NAME, None)
    blobs.mark(NAME, None)
    assert kept(blobs)[NAME].unused_since_ms is None


def test_only_what_is_old_enough_is_deleted(blobs: BlobStore) -> None:
    put(blobs, CONTENT, b"another")
    blobs.mark(NAME, NOW_MS)
    assert blobs.delete(NAME, NOW_MS) is False
    put(blobs, CONTENT, now_ms=NOW_MS + DAY_MS)
    assert blobs.delete(NAME, NOW_MS + DAY_MS) is False
    assert blobs.get(NAME) == CONTENT
    assert blobs.delete(NAME, NOW_MS + DAY_MS + 1) is True
    assert blobs.delete(NAME, NOW_MS + DAY_MS + 1) is False
    assert (blobs.get(NAME), blobs.held_by(NAME, [ALI])) == (None, set())
    assert set(kept(blobs)) == {hashed(b"another")}


def test_what_is_deleted_may_come_again(blobs: BlobStore) -> None:
    put(blobs, CONTENT, holder=ALI)
    blobs.mark(NAME, NOW_MS)
    blobs.delete(NAME, NOW_MS + 1)
    put(blobs, CONTENT, holder=BEA, now_ms=NOW_MS + 2)
    assert kept(blobs)[NAME][2:] == (NOW_MS + 2, None, {BEA})


class TestQuota:
    """What is beyond `max_bytes` does not come in."""

    def test_what_does_not_fit_is_refused_and_the_rest_goes_on(self, kind: BlobKind, tmp_path: Path) -> None:
        blobs = kind(tmp_path, 100)
        blobs.open()
        assert put(blobs, b"a" * 60) is Kept.NEW
        assert put(blobs, b"b" * 41) is Kept.FULL
        assert put(blobs, b"c" * 40) is Kept.NEW
        assert put(blobs, b"d") is Kept.FULL
        assert put(blobs, b"") is Kept.NEW
        assert (put(blobs, b"a" * 60), put(blobs, b"c" * 40)) == (Kept.KNOWN, Kept.KNOWN)
        assert {entry.size_bytes for entry in kept(blobs).values()} == {60, 40, 0}
        assert not blobs.has(hashed(b"d"))
        assert blobs.held_by(hashed(b"d"), [ALI]) == set()
        blobs.close()

    def test_what_is_there_already_counts(self, kind: BlobKind, tmp_path: Path) -> None:
        first = kind(tmp_path)
        first.open()
        put(first, b"a" * 60)
        second = kind.another(first, 100)
        second.open()
        assert [put(second, b"b" * 60), put(second, b"c" * 40)] == [Kept.FULL, Kept.NEW]
        first.close()
        second.close()

    def test_what_was_deleted_makes_room_in_the_end(
        self, kind: BlobKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        blobs = kind(tmp_path, 100)
        blobs.open()
        put(blobs, b"a" * 60)
        blobs.delete(hashed(b"a" * 60), NOW_MS + 1)
        assert put(blobs, b"b" * 60) is Kept.FULL
        monkeypatch.setattr("kora_daemon.store.blobs.quota._COUNTED_WHEN_FULL_FOR_S", 0)
        assert put(blobs, b"b" * 60) is Kept.NEW
        blobs.close()

    def test_threads_do_not_pass_it_together(self, kind: BlobKind, tmp_path: Path) -> None:
        blobs = kind(tmp_path, 1_000)
        blobs.open()
        with ThreadPoolExecutor(4) as threads:
            outcomes = list(threads.map(lambda number: put(blobs, bytes([number]) * 100), range(40)))
        assert outcomes.count(Kept.NEW) == 10
        assert sum(entry.size_bytes for entry in kept(blobs).values()) == 1_000
        blobs.close()


def test_threads_may_put_delete_and_read_the_same(blobs: BlobStore) -> None:
    """Whatever is read is whole, and what is stored last is there in the end."""

    def work(number: int) -> None:
        content = b"%d" % (number % 3) * 50_000
        if number % 4 == 3:
            blobs.delete(hashed(content), NOW_MS + number)
        else:
            put(blobs, content, now_ms=NOW_MS + number)
        assert blobs.get(hashed(content)) in (content, None)
        for entry in blobs.entries():
            assert entry.size_bytes == 50_000

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(120)))
    put(blobs, b"last", now_ms=NOW_MS + 1_000)
    assert blobs.get(hashed(b"last")) == b"last"


def test_what_was_stored_again_while_it_was_deleted_stays(blobs: BlobStore) -> None:
    for _ in range(30):
        put(blobs, CONTENT)
        with ThreadPoolExecutor(2) as threads:
            again = threads.submit(put, blobs, CONTENT, now_ms=NOW_MS + DAY_MS)
            gone = threads.submit(blobs.delete, NAME, NOW_MS + DAY_MS)
        assert again.result() in (Kept.NEW, Kept.KNOWN)
        gone.result()
        assert blobs.get(NAME) == CONTENT
        assert blobs.delete(NAME, NOW_MS + DAY_MS + 1) is True


def test_a_closed_store_says_so(kind: BlobKind, tmp_path: Path) -> None:
    blobs = kind(tmp_path)
    blobs.close()
    if kind is BLOB_STORES["directory"]:
        with pytest.raises(StoreUnavailable, match="not open"):
            blobs.get(NAME)
