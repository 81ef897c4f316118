"""What no record refers to is deleted, after it has been so for a while; on every store, with a schema and without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kora_daemon.errors import StoreError
from kora_daemon.materialization.shape import Refill
from kora_daemon.store.blobs.contract import BlobStore
from kora_daemon.store.blobs.directory import DirectoryBlobs
from kora_daemon.store.blobs.gc import Collection, Encrypted, LiveBlobs, Swept, Tally
from kora_daemon.store.contract import Store
from tests.support.blobs import BLOB_STORES, DAY_MS, NOW_MS, hashed, kept, manifest_of, put, reference
from tests.support.records import Node, append, apply, bring_to, schema_of
from tests.support.stores import RECORD_STORES

FILES = schema_of(files={"ownerId": "string", "file": "blob", "more": "json"})
WEEK_MS = 7 * DAY_MS
PARTS = [b"part one", b"part two"]
MANIFEST = manifest_of(*PARTS)
WHOLE = b"".join(PARTS)


class Place:
    """A log, blobs, and days that pass."""

    def __init__(self, store: Store, blobs: BlobStore) -> None:
        self.store = store
        self.blobs = blobs
        self.node = Node()
        self.now_ms = NOW_MS

    def write(self, kind: Any, record_id: str, data: Any) -> None:
        apply(self.store, self.node.write(kind, record_id, data, collection="files"))

    def put(self, *contents: bytes) -> None:
        put(self.blobs, *contents, now_ms=self.now_ms)

    def run(self, grace_ms: int = WEEK_MS, *, dry: bool = False, blind: bool = False, later_days: float = 0) -> Swept:
        self.now_ms += round(later_days * DAY_MS)
        return Collection(
            self.blobs, LiveBlobs(self.store, self.blobs, blind=blind), grace_ms, self.now_ms, dry=dry
        ).run()

    def run_for_long(self) -> None:
        """Twice, with more than the grace period in between."""
        self.run()
        self.run(later_days=8)

    @property
    def there(self) -> set[str]:
        return set(kept(self.blobs))


@pytest.fixture(params=[(name, with_schema) for name in RECORD_STORES for with_schema in (True, False)], ids=str)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    name, with_schema = request.param
    store = RECORD_STORES[name](tmp_path)
    blobs = BLOB_STORES["postgres" if name == "postgres" else "directory"](tmp_path)
    store.open()
    blobs.open()
    if with_schema:
        bring_to(store, FILES)
    yield Place(store, blobs)
    blobs.close()
    store.close()


def names(*contents: bytes) -> set[str]:
    return {hashed(content) for content in contents}


def test_what_records_refer_to_stays_and_the_rest_goes(place: Place) -> None:
    place.put(b"direct", MANIFEST, *PARTS, b"nobodys")
    place.write("insert", "a", {"file": reference(b"direct")})
    place.write("insert", "b", {"file": reference(WHOLE, MANIFEST)})
    place.run_for_long()
    assert place.there == names(b"direct", MANIFEST, *PARTS)


def test_it_goes_only_when_it_was_unused_for_the_whole_time(place: Place) -> None:
    place.put(b"x")
    swept = place.run(later_days=100)
    assert (swept.waiting.blobs, swept.waiting.bytes, swept.deleted.blobs) == (1, 1, 0)
    assert place.run(later_days=6.9).waiting.blobs == 1
    swept = place.run(later_days=0.2)
    assert (swept.deleted.blobs, swept.deleted.bytes, place.there) == (1, 1, set())


def test_what_is_stored_again_is_young_again(place: Place) -> None:
    place.put(b"x")
    place.run()
    place.run(later_days=6)
    place.put(b"x")
    place.run(later_days=6)
    assert place.there == names(b"x")
    place.run(later_days=2)
    assert place.there == set()


def test_what_was_in_use_meanwhile_has_the_whole_time_again(place: Place) -> None:
    place.put(b"x")
    place.run()
    place.write("insert", "a", {"file": reference(b"x")})
    place.run(later_days=6)
    place.write("delete", "a", None)
    place.run(later_days=6)
    assert place.there == names(b"x")
    place.run(later_days=8)
    assert place.there == set()


def test_without_grace_it_goes_at_once(place: Place) -> None:
    place.put(b"x", b"y")
    place.write("insert", "a", {"file": reference(b"y")})
    assert place.run(0).deleted.blobs == 1
    assert place.there == names(b"y")


def test_a_dry_run_changes_nothing(place: Place) -> None:
    place.put(b"x", b"y")
    place.write("insert", "a", {"file": reference(b"y")})
    before = kept(place.blobs)
    assert place.run(0, dry=True) == Swept(Tally(1, 1), Tally(), Tally(1, 1))
    assert place.run(dry=True) == Swept(Tally(1, 1), Tally(1, 1), Tally())
    assert kept(place.blobs) == before


def test_a_deleted_record_refers_to_nothing_until_it_is_back(place: Place) -> None:
    place.put(b"x", b"y")
    for record_id, content in (("a", b"x"), ("b", b"y")):
        place.write("insert", record_id, {"file": reference(content)})
        place.run(later_days=30)
        place.write("delete", record_id, None)
    place.run()
    place.write("update", "a", {"more": "back"})
    place.run(later_days=5)
    place.run(later_days=8)
    assert place.there == names(b"x")


def test_a_reference_that_was_overwritten_counts_no_more(place: Place) -> None:
    place.put(b"old", b"new")
    place.write("insert", "a", {"file": reference(b"old")})
    place.write("update", "a", {"file": reference(b"new")})
    place.run_for_long()
    assert place.there == names(b"new")


def test_a_part_that_two_files_share_stays_as_long_as_one_does(place: Place) -> None:
    other = manifest_of(PARTS[0], b"another end")
    place.put(MANIFEST, *PARTS, other, b"another end")
    place.write("insert", "a", {"file": reference(WHOLE, MANIFEST)})
    place.write("insert", "b", {"file": reference(b"x", other)})
    place.write("delete", "a", None)
    place.run_for_long()
    assert place.there == names(other, PARTS[0], b"another end")


def test_a_manifest_that_is_missing_or_damaged_keeps_nothing(place: Place) -> None:
    place.put(*PARTS, b"kept")
    place.write("insert", "a", {"file": reference(WHOLE, MANIFEST)})
    place.write("insert", "b", {"file": reference(b"kept")})
    place.run_for_long()
    assert place.there == names(b"kept")


@pytest.mark.parametrize("content", [b"{", b'{"chunkHashes": 5}', b'{"chunkHashes": ["../../etc"]}', b'{"a":' * 9_000])
def test_what_only_looks_like_a_manifest_does_no_harm(place: Place, content: bytes) -> None:
    place.put(content)
    place.write("insert", "a", {"file": reference(content)})
    place.run_for_long()
    assert place.there == names(content)


def test_encrypted_operations_keep_everything(place: Place) -> None:
    place.put(b"x")
    place.write("insert", "a", {"more": "speaks of __kora_e2e_encrypted"})
    assert place.run().waiting.blobs == 1
    append_only = place.node.insert("b", {"__kora_e2e_encrypted": True, "v": 1, "ct": "…"}, collection="files")
    with place.store.transaction() as tx:
        append(tx, append_only)
    with pytest.raises(Encrypted, match="files are end-to-end encrypted"):
        place.run(0)
    assert place.there == names(b"x")
    assert place.run(0, blind=True).deleted.blobs == 1


class TestMeanwhile:
    """Devices go on writing while it runs."""

    @pytest.mark.parametrize("written", ["a reference", "a manifest", "a record that comes back"])
    def test_what_is_referred_to_at_the_last_moment_stays(
        self, place: Place, written: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place.put(b"direct", MANIFEST, *PARTS)
        place.write("insert", "gone", {"file": reference(b"direct")})
        place.write("delete", "gone", None)
        entries = place.blobs.entries

        def written_late() -> Iterator[Any]:
            yield from entries()
            if written == "a reference":
                place.write("insert", "new", {"file": reference(b"direct")})
            elif written == "a manifest":
                place.write("insert", "new", {"file": reference(WHOLE, MANIFEST)})
            else:
                place.write("update", "gone", {"more": "back"})

        monkeypatch.setattr(place.blobs, "entries", written_late)
        place.run(0)
        monkeypatch.undo()
        assert place.there == (names(MANIFEST, *PARTS) if written == "a manifest" else names(b"direct"))

    def test_what_is_stored_again_at_the_last_moment_stays(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        place.put(b"x", b"y")
        delete = place.blobs.delete

        def stored_late(hexadecimal: str, before_ms: int) -> bool:
            if hexadecimal == hashed(b"x"):
                put(place.blobs, b"x", now_ms=place.now_ms + 1)
            return delete(hexadecimal, before_ms)

        monkeypatch.setattr(place.blobs, "delete", stored_late)
        swept = place.run(0)
        assert (swept.deleted.blobs, swept.waiting.blobs, place.there) == (1, 1, names(b"x"))

    def test_another_log_in_its_place_ends_it(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        place.put(b"x")
        place.write("insert", "a", {"file": reference(b"x")})
        entries = place.blobs.entries

        def replaced() -> Iterator[Any]:
            with place.store.transaction() as tx:
                tx.replace_log({})
            place.put(b"y")
            yield from entries()

        monkeypatch.setattr(place.blobs, "entries", replaced)
        with pytest.raises(StoreError, match="another log was put in place"):
            place.run(0)
        monkeypatch.undo()
        assert place.there == names(b"x", b"y")


def test_rows_that_are_still_to_be_made_do_not_matter(place: Place) -> None:
    place.put(b"x")
    place.write("insert", "a", {"file": reference(b"x")})
    with place.store.transaction() as tx:
        if tx.shapes:
            tx.set_refill("files", Refill("log"))
    place.run_for_long()
    assert place.there == names(b"x")


def test_a_folder_that_fails_half_way_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, blobs = RECORD_STORES["memory"](tmp_path), DirectoryBlobs(tmp_path / "blobs")
    store.open()
    blobs.open()
    place = Place(store, blobs)
    place.put(b"x")
    (tmp_path / "blobs" / hashed(b"x")[:2]).rename(tmp_path / "elsewhere")
    (tmp_path / "blobs" / hashed(b"x")[:2]).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="check the folder"):
        place.run(0)
    assert (tmp_path / "elsewhere" / hashed(b"x")).read_bytes() == b"x"
    blobs.close()
