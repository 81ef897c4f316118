"""`kora blobs` as an operator types it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kora_daemon.store.blobs.contract import ANYBODY
from kora_daemon.store.blobs.directory import DirectoryBlobs
from kora_daemon.store.postgres import PostgresStore
from kora_daemon.store.postgres.blobs import PostgresBlobs
from tests.support.blobs import ALI, NOW_MS, hashed, kept, manifest_of, put, reference
from tests.support.cli import Kora
from tests.support.config import problems
from tests.support.postgres import server
from tests.support.records import Node, apply

CONFIG = """
[blobs]
kind = "directory"
gc_grace_days = 3
[store]
durability = "normal"
"""
PARTS = [b"part one", b"part two"]
MANIFEST = manifest_of(*PARTS)


class Place:
    """A folder with a log in which one record has a file, and blobs: those of the file, and one that nobody uses."""

    def __init__(self, folder: Path) -> None:
        self.kora = Kora(folder, config=CONFIG)
        self.folder = folder / "blobs"
        with self.kora.store() as store:
            file = reference(b"".join(PARTS), MANIFEST)
            apply(store, Node().insert("a", {"file": file}, collection="things"))
        self.blobs = DirectoryBlobs(self.folder)
        self.blobs.open()
        put(self.blobs, MANIFEST, *PARTS, b"nobodys")

    @property
    def there(self) -> set[str]:
        return set(kept(self.blobs))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.blobs.close()


class TestGc:
    """What no record refers to."""

    def test_it_is_marked_and_goes_after_the_grace_period(self, place: Place) -> None:
        said = place.kora("blobs", "gc")
        assert said.out == (
            f"3 blobs ({len(MANIFEST) + 16} bytes) in use.\n"
            "1 blob (7 bytes) unused for less than 3 days, and kept.\n"
            "0 blobs (0 bytes) were deleted.\n"
        )
        assert (said.code, said.err) == (0, "")
        place.blobs.mark(hashed(b"nobodys"), NOW_MS)
        assert "1 blob (7 bytes) were deleted." in place.kora("blobs", "gc").out
        assert place.there == {hashed(content) for content in (MANIFEST, *PARTS)}

    def test_a_dry_run_says_what_would_go(self, place: Place) -> None:
        before = kept(place.blobs)
        assert "1 blob (7 bytes) would be deleted." in place.kora("blobs", "gc", "--dry-run", "--grace", "0").out
        assert kept(place.blobs) == before

    def test_json(self, place: Place) -> None:
        assert place.kora("blobs", "gc", "--json", "--grace", "0.5").json == {
            "live": {"blobs": 3, "bytes": len(MANIFEST) + 16},
            "waiting": {"blobs": 1, "bytes": 7},
            "deleted": {"blobs": 0, "bytes": 0},
            "dryRun": False,
            "graceDays": 0.5,
        }

    def test_a_log_without_anything_in_it_deletes_nothing(self, place: Place) -> None:
        place.kora.database.rename(place.kora.folder / "elsewhere.db")
        with place.kora.store():
            pass
        said = place.kora("blobs", "gc", "--grace", "0")
        assert (said.code, said.out) == (1, "")
        assert said.err == "kora: the log is empty: with this database no blob is in use, so nothing was deleted\n"
        assert len(place.there) == 4

    def test_encrypted_operations_stop_it_unless_told_otherwise(self, place: Place) -> None:
        with place.kora.store() as store:
            apply(store, Node("b").insert("b", {"__kora_e2e_encrypted": True, "ct": "…"}, collection="things"))
        said = place.kora("blobs", "gc", "--grace", "0")
        assert said.code == 1
        assert "--despite-encryption" in said.err
        assert len(place.there) == 4
        assert place.kora("blobs", "gc", "--grace", "0", "--despite-encryption").code == 0
        assert len(place.there) == 3

    @pytest.mark.parametrize("days", ["-1", "soon"])
    def test_a_grace_that_is_none(self, place: Place, days: str) -> None:
        assert place.kora("blobs", "gc", "--grace", days).code == 2


class TestList:
    """What there is."""

    def test_a_line_for_each(self, place: Place) -> None:
        place.blobs.mark(hashed(b"nobodys"), NOW_MS)
        lines = place.kora("blobs", "list").out.splitlines()
        assert [line.split()[0] for line in lines] == sorted(place.there)
        (unused,) = [line for line in lines if "unused" in line]
        assert unused.split() == [
            hashed(b"nobodys"),
            "7",
            "2023-11-14T22:13:20+00:00",
            "unused",
            "since",
            "2023-11-14T22:13:20+00:00",
        ]

    def test_json(self, place: Place) -> None:
        said = place.kora("blobs", "list", "--json").json
        assert {one["hash"] for one in said} == place.there
        assert said[0] | {"hash": "", "bytes": 0} == {
            "hash": "",
            "bytes": 0,
            "storedAt": "2023-11-14T22:13:20+00:00",
            "unusedSince": None,
        }


class TestVerify:
    """Whether it is whole."""

    def test_what_is_damaged_is_named_and_may_be_deleted(self, place: Place) -> None:
        assert place.kora("blobs", "verify").out == "4 of 4 blobs are whole.\n"
        name = hashed(PARTS[0])
        (place.folder / name[:2] / name).write_bytes(b"rotten")
        said = place.kora("blobs", "verify")
        assert (said.code, said.out) == (1, f"{name} is damaged.\n3 of 4 blobs are whole.\n")
        said = place.kora("blobs", "verify", "--json", "--delete")
        assert (said.code, json.loads(said.out)) == (1, {"checked": 4, "damaged": [name], "deleted": True})
        assert name not in place.there
        assert place.kora("blobs", "verify").code == 0


class TestImport:
    """What was kept elsewhere."""

    def test_a_folder_of_the_typescript_servers(self, place: Place, tmp_path: Path) -> None:
        theirs = tmp_path / "theirs"
        for content, name in ((b"a logo", hashed(b"a logo")), (b"rotten", "ab" * 32), (b"nobodys", hashed(b"nobodys"))):
            (theirs / name[:2]).mkdir(parents=True, exist_ok=True)
            (theirs / name[:2] / name).write_bytes(content)
        said = place.kora("blobs", "import", str(theirs))
        assert (said.code, said.out) == (
            1,
            "Imported 1 blobs; 1 were there already, 1 are damaged, 0 too large, for 0 there was no room.\n",
        )
        assert kept(place.blobs)[hashed(b"a logo")].holders == {ANYBODY}
        (theirs / "ab" / ("ab" * 32)).unlink()
        assert place.kora("blobs", "import", str(theirs), "--json").json == {
            "imported": 0,
            "known": 2,
            "damaged": 0,
            "tooLarge": 0,
            "noRoom": 0,
        }

    def test_from_a_folder_of_ours_into_the_database(self, place: Place, tmp_path: Path) -> None:
        url = server().schema()
        config = f'[store]\nkind = "postgres"\nurl = "{url}"\n[blobs]\nkind = "store"\n'
        into = tmp_path / "into"
        into.mkdir()
        said = Kora(into, config=config)("blobs", "import", str(place.folder), "--json")
        assert said.json == {"imported": 4, "known": 0, "damaged": 0, "tooLarge": 0, "noRoom": 0}
        blobs = PostgresBlobs(url)
        blobs.open()
        assert {name: entry.holders for name, entry in kept(blobs).items()} == {name: {ALI} for name in place.there}
        blobs.close()

    def test_what_is_no_folder(self, place: Place, tmp_path: Path) -> None:
        said = place.kora("blobs", "import", str(tmp_path / "nowhere"))
        assert said.err == f"kora: {tmp_path / 'nowhere'} is no folder; name the one that the files are in\n"


@pytest.mark.parametrize("command", [["gc"], ["list"], ["verify"], ["import", "."]])
def test_where_nothing_is_kept_that_is_said(tmp_path: Path, command: list[str]) -> None:
    said = Kora(tmp_path, config="")("blobs", *command)
    assert (said.code, said.out) == (1, "")
    assert said.err == 'kora: blobs.kind is "none": devices give files to each other, and nothing is kept here\n'


def test_everything_works_in_the_database(tmp_path: Path) -> None:
    url = server().schema()
    store = PostgresStore(url)
    store.open()
    apply(store, Node().insert("a", {"file": reference(b"x")}, collection="things"))
    store.close()
    blobs = PostgresBlobs(url)
    blobs.open()
    put(blobs, b"x", b"nobodys")
    kora = Kora(tmp_path, config=f'[store]\nkind = "postgres"\nurl = "{url}"\n[blobs]\nkind = "store"\n')
    assert kora("blobs", "verify", "--json").json["checked"] == 2
    assert kora("blobs", "gc", "--grace", "0", "--json").json["deleted"]["blobs"] == 1
    assert len(kora("blobs", "list").out.splitlines()) == 1
    blobs.close()


class TestConfiguration:
    """What the file may say."""

    @pytest.mark.parametrize("kind", ["sqlite", "memory"])
    def test_only_postgresql_keeps_blobs_beside_the_log(self, tmp_path: Path, kind: str) -> None:
        assert problems(tmp_path, f'[store]\nkind = "{kind}"\n[blobs]\nkind = "store"\n') == [
            f'blobs.kind (kora.toml): found "store", which is in PostgreSQL, but store.kind is "{kind}"; '
            'use "directory", or store.kind = "postgres"'
        ]

    def test_a_blob_has_to_fit_into_a_message(self, tmp_path: Path) -> None:
        toml = '[limits]\nmax_message_bytes = 1000000\n[blobs]\nkind = "{}"\nmax_blob_bytes = 750000\n'
        (problem,) = problems(tmp_path, toml.format("directory"))
        assert problem.startswith("blobs.max_blob_bytes (kora.toml): found 750000, expected at most 749000")
        assert problems(tmp_path, toml.format("none")) == []

    def test_a_folder_that_can_not_be_made_ends_the_start(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        kora = Kora(tmp_path, config='[server]\nport = 0\n[blobs]\nkind = "directory"\npath = "file/blobs"\n')
        said = kora.child("serve")
        assert said.code == 1
        assert "file/blobs: Not a directory; check the folder of the blobs" in said.err
