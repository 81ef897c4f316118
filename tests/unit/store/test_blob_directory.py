"""Blobs in a folder: what is in there, what is never followed, and what processes that died leave behind."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from kora_daemon.errors import StoreCorrupt, StoreUnavailable
from kora_daemon.store.blobs import directory
from kora_daemon.store.blobs.contract import Kept
from kora_daemon.store.blobs.directory import DirectoryBlobs
from tests.support.blobs import ALI, BEA, NOW_MS, hashed, kept, put

CONTENT = b"a file"
NAME = hashed(CONTENT)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "blobs"


@pytest.fixture
def blobs(folder: Path) -> Iterator[DirectoryBlobs]:
    made = DirectoryBlobs(folder)
    made.open()
    yield made
    made.close()


@pytest.fixture
def place(folder: Path) -> Path:
    """Where the content is, or would be."""
    return folder / NAME[:2] / NAME


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_the_folder_holds_contents_and_who_has_them_and_nothing_else(blobs: DirectoryBlobs, folder: Path) -> None:
    put(blobs, CONTENT, holder=ALI)
    put(blobs, CONTENT, holder=BEA)
    assert names(folder) == {f"{NAME[:2]}/{NAME}{end}" for end in ("", f".{ALI}", f".{BEA}")}
    assert (folder / NAME[:2] / NAME).read_bytes() == CONTENT


def test_nobody_else_may_look_into_it(blobs: DirectoryBlobs, folder: Path) -> None:
    before = os.umask(0)
    try:
        put(blobs, CONTENT)
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_dir()}
    assert modes == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()} == {0o600}


def test_the_folder_may_be_a_link_and_may_be_shared(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "blobs").symlink_to(tmp_path / "disk")
    first, second = DirectoryBlobs(tmp_path / "blobs"), DirectoryBlobs(tmp_path / "disk")
    for one in (first, second):
        one.open()
    put(first, CONTENT)
    assert second.get(NAME) == CONTENT
    first.close()
    second.close()


def test_a_folder_that_can_not_be_made_is_an_error_with_a_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="file/blobs: Not a directory; check the folder of the blobs"):
        DirectoryBlobs(tmp_path / "file" / "blobs").open()


class TestLinks:
    """What somebody else has put there is not followed, not read, and does not hold anybody up."""

    def test_a_link_in_place_of_a_content(self, blobs: DirectoryBlobs, place: Path, tmp_path: Path) -> None:
        secret = tmp_path / "secret"
        secret.write_bytes(CONTENT)
        place.parent.mkdir()
        place.symlink_to(secret)
        assert not blobs.has(NAME)
        with pytest.raises(StoreUnavailable):
            blobs.get(NAME)
        assert kept(blobs) == {}
        assert put(blobs, CONTENT) is Kept.NEW
        assert not place.is_symlink()
        assert secret.read_bytes() == CONTENT

    def test_a_link_in_place_of_a_folder(self, blobs: DirectoryBlobs, place: Path, tmp_path: Path) -> None:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / NAME).write_bytes(CONTENT)
        place.parent.symlink_to(elsewhere)
        for call in (lambda: put(blobs, CONTENT), lambda: blobs.get(NAME), lambda: blobs.delete(NAME, 2 * NOW_MS)):
            with pytest.raises(StoreUnavailable, match=r"Not a directory|symbolic links"):
                call()
        assert names(elsewhere) == {NAME}

    def test_a_link_in_place_of_a_mark(self, blobs: DirectoryBlobs, place: Path, tmp_path: Path) -> None:
        victim = tmp_path / "victim"
        victim.write_bytes(b"theirs")
        place.parent.mkdir()
        Path(f"{place}.{ALI}").symlink_to(victim)
        with pytest.raises(StoreUnavailable):
            put(blobs, CONTENT, holder=ALI)
        assert victim.stat().st_mtime_ns != NOW_MS * 1_000_000
        assert blobs.held_by(NAME, [ALI]) == set()

    def test_a_pipe_and_a_folder(self, blobs: DirectoryBlobs, place: Path) -> None:
        place.parent.mkdir()
        os.mkfifo(place)
        assert (blobs.has(NAME), blobs.get(NAME), kept(blobs)) == (False, None, {})
        place.unlink()
        place.mkdir()
        assert (blobs.has(NAME), blobs.get(NAME), kept(blobs)) == (False, None, {})


class TestLeftovers:
    """A process may die at any moment."""

    def test_what_nobody_writes_any_more_goes_when_one_starts(self, blobs: DirectoryBlobs, folder: Path) -> None:
        put(blobs, CONTENT)
        (folder / "incoming" / f"{NAME}.0123").write_bytes(b"half")
        (folder / "incoming" / "whatever").write_bytes(b"")
        again = DirectoryBlobs(folder)
        again.open()
        assert list((folder / "incoming").iterdir()) == []
        assert again.get(NAME) == CONTENT
        again.close()

    def test_what_somebody_writes_stays(self, blobs: DirectoryBlobs, folder: Path) -> None:
        with (folder / "incoming" / "theirs").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            again = DirectoryBlobs(folder)
            again.open()
            assert (folder / "incoming" / "theirs").exists()
            again.close()

    def test_a_write_that_fails_leaves_nothing(
        self, blobs: DirectoryBlobs, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(_file: int, _content: bytes) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as disk:
            disk.setattr(directory, "_write_all", full)
            assert put(blobs, CONTENT) is Kept.FULL
        assert list((folder / "incoming").iterdir()) == []
        assert kept(blobs) == {}
        assert put(blobs, CONTENT) is Kept.NEW

    def test_other_troubles_of_a_disk_are_told(self, blobs: DirectoryBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(_file: int) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "fsync", broken)
        with pytest.raises(StoreUnavailable, match="Input/output error; check the folder of the blobs"):
            put(blobs, CONTENT)
        assert kept(blobs) == {}


class TestDamage:
    """What has other bytes than its name says is never given away."""

    @pytest.mark.parametrize("bytes_", [b"", b"a fil", b"b file", b"a file "])
    def test_it_is_told_and_the_next_one_who_brings_it_mends_it(
        self, blobs: DirectoryBlobs, place: Path, bytes_: bytes
    ) -> None:
        put(blobs, CONTENT)
        place.write_bytes(bytes_)
        with pytest.raises(StoreCorrupt, match=NAME):
            blobs.get(NAME)
        put(blobs, CONTENT)
        assert blobs.get(NAME) == CONTENT


class TestRoom:
    """The disk is not ours alone."""

    def test_some_of_the_disk_is_left_to_others(self, folder: Path) -> None:
        disk = os.statvfs(folder.parent.parent)
        free = disk.f_bavail * disk.f_frsize
        blobs = DirectoryBlobs(folder, keep_free_bytes=2 * free)
        blobs.open()
        assert put(blobs, CONTENT) is Kept.FULL
        assert names(folder) == set()
        blobs.close()

    def test_as_long_as_there_is_more_it_is_used(self, folder: Path) -> None:
        blobs = DirectoryBlobs(folder, keep_free_bytes=1)
        blobs.open()
        assert put(blobs, CONTENT) is Kept.NEW
        blobs.close()


class TestAnotherServersFolder:
    """The TypeScript server's file store has the same names."""

    def test_it_is_read_as_it_is(self, tmp_path: Path) -> None:
        theirs = tmp_path / "theirs"
        (theirs / NAME[:2]).mkdir(parents=True)
        (theirs / NAME[:2] / NAME).write_bytes(CONTENT)
        (theirs / NAME[:2] / f"{NAME}.5f0e.tmp").write_bytes(b"half")
        (theirs / "notes.txt").write_text("mine")
        blobs = DirectoryBlobs(theirs, writable=False)
        blobs.open()
        assert blobs.get(NAME) == CONTENT
        assert kept(blobs)[NAME].holders == frozenset()
        blobs.close()
        assert names(theirs) == {f"{NAME[:2]}/{NAME}", f"{NAME[:2]}/{NAME}.5f0e.tmp", "notes.txt"}
        assert not (theirs / "incoming").exists()
