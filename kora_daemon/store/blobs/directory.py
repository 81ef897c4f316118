"""Blobs in a folder: a file for each content, named by its hash, so that `sha256sum` is all it takes to check them.

    incoming/             what is being written
    ab/ab12…              a content
    ab/ab12….<holder>     empty: who has it
    ab/ab12….unused       empty: since when (its time of change) no record refers to it

The TypeScript server's file store names contents the same way. Whatever a file is called by, it is reached through open
folders and never through a link, so no name leads out of here.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kora_daemon.errors import StoreCorrupt, StoreUnavailable
from kora_daemon.materialization.blobs import is_blob_hash
from kora_daemon.store.blobs.contract import ANY_SIZE, BlobEntry, Kept, sha256_of
from kora_daemon.store.blobs.quota import Quota

_INCOMING = "incoming"
_UNUSED = "unused"
_HOLDER = re.compile("[0-9a-f]{32}")
_SHARD = re.compile("[0-9a-f]{2}")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Neither a link nor a pipe that somebody has put there holds us up."""
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_MS = 1_000_000
"""Nanoseconds."""


class DirectoryBlobs:
    """A `BlobStore` in the folder `path`, made when it is missing; several processes may share it.

    Holds at most `max_bytes` (0 = any number), and leaves `keep_free_bytes` of the disk to others. A content is written
    to a file of its own, brought to the disk, and renamed: whenever the process dies, it is there in whole or not at
    all.
    """

    def __init__(self, path: Path, *, max_bytes: int = 0, keep_free_bytes: int = 0, writable: bool = True) -> None:
        self._path = path
        self._writable = writable
        self._keep_free_bytes = keep_free_bytes
        self._quota = Quota(max_bytes, lambda: sum(entry.size_bytes for entry in self.entries()))
        self._root = -1

    def open(self) -> None:
        """Make the folder, and remove what processes that died have left in it; one to be read is left as it is."""
        if self._root >= 0:
            return
        with self._translating():
            if self._writable:
                self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            # The folder itself may be a link to a larger disk: it is the operator who names it.
            self._root = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if self._writable:
                with suppress(FileExistsError):
                    os.mkdir(_INCOMING, 0o700, dir_fd=self._root)
                self._remove_leftovers()

    def close(self) -> None:
        """Close the folder."""
        root, self._root = self._root, -1
        if root >= 0:
            os.close(root)

    def put(self, hexadecimal: str, content: bytes, holders: Collection[str], now_ms: int) -> Kept:
        """Keep a content durably. What is there is written again all the same: that mends it, and tells nobody."""
        names = [f"{hexadecimal}.{_checked_holder(holder)}" for holder in holders]
        with self._translating(), self._shard_of(hexadecimal, make=True) as shard:
            known = _status(hexadecimal, shard)
            size = 0 if known is not None and known.st_size == len(content) else len(content)
            try:
                with self._quota.room_for(size) as has_room:
                    if not has_room or not self._disk_has_room_for(size):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    for name in names:
                        _touch(name, shard, now_ms)
                    self._write(hexadecimal, content, shard, now_ms)
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                return Kept.FULL
        return Kept.NEW if known is None else Kept.KNOWN

    def _write(self, hexadecimal: str, content: bytes, shard: int, now_ms: int) -> None:
        with self._folder(_INCOMING) as incoming:
            name = f"{hexadecimal}.{secrets.token_hex(8)}"
            file = os.open(name, _MAKE | os.O_EXCL, 0o600, dir_fd=incoming)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)  # as long as we live nobody takes it for a leftover
                _write_all(file, content)
                os.utime(file, ns=(now_ms * _MS, now_ms * _MS))
                os.fsync(file)
                os.rename(name, hexadecimal, src_dir_fd=incoming, dst_dir_fd=shard)
            except BaseException:
                with suppress(OSError):
                    os.unlink(name, dir_fd=incoming)
                raise
            finally:
                os.close(file)
        os.fsync(shard)

    def has(self, hexadecimal: str) -> bool:
        """Whether a content is kept."""
        with self._translating(), suppress(FileNotFoundError), self._shard_of(hexadecimal) as shard:
            return _status(hexadecimal, shard) is not None
        return False

    def get(self, hexadecimal: str, max_bytes: int = ANY_SIZE) -> bytes | None:
        """The content; see the contract."""
        content = None
        with self._translating(), suppress(FileNotFoundError), self._shard_of(hexadecimal) as shard:
            content = _read(hexadecimal, shard, max_bytes=max_bytes)
        if content is not None and sha256_of(content) != hexadecimal:
            raise StoreCorrupt(f"{self._path / hexadecimal[:2] / hexadecimal} is damaged; delete it, or restore it")
        return content

    def head(self, hexadecimal: str, size_bytes: int) -> bytes:
        """The first bytes of a content; see the contract."""
        with self._translating(), suppress(FileNotFoundError), self._shard_of(hexadecimal) as shard:
            return _read(hexadecimal, shard, size_bytes)
        return b""

    def held_by(self, hexadecimal: str, holders: Collection[str]) -> set[str]:
        """Which of these have shown to have the content."""
        with self._translating(), suppress(FileNotFoundError), self._shard_of(hexadecimal) as shard:
            return {one for one in holders if _status(f"{hexadecimal}.{_checked_holder(one)}", shard) is not None}
        return set()

    def entries(self) -> Iterator[BlobEntry]:
        """All that is kept; see the contract."""
        with self._translating():
            for name in sorted(filter(_SHARD.fullmatch, os.listdir(self._root))):
                with self._folder(name) as shard:
                    yield from _entries_in(shard)

    def mark(self, hexadecimal: str, unused_since_ms: int | None) -> None:
        """Remember since when no record refers to a content; see the contract."""
        name = f"{hexadecimal}.{_UNUSED}"
        with self._translating(), suppress(FileNotFoundError), self._shard_of(hexadecimal) as shard:
            if unused_since_ms is None:
                os.unlink(name, dir_fd=shard)
            elif _status(hexadecimal, shard) is not None:
                _touch(name, shard, unused_since_ms)

    def delete(self, hexadecimal: str, before_ms: int) -> bool:
        """Delete a content unless it was stored at this time or later; see the contract."""
        with (
            self._translating(),
            suppress(FileNotFoundError),
            self._shard_of(hexadecimal) as shard,
            self._folder(_INCOMING) as incoming,
        ):
            if not _remove_older(hexadecimal, shard, incoming, before_ms):
                return False
            for name in os.listdir(shard):
                if name.startswith(f"{hexadecimal}."):
                    _remove_older(name, shard, incoming, before_ms)
            return True
        return False

    # Folders

    @contextmanager
    def _shard_of(self, hexadecimal: str, *, make: bool = False) -> Iterator[int]:
        if not is_blob_hash(hexadecimal):
            raise ValueError(f"found {hexadecimal[:80]!r}, expected a SHA-256 of 64 hexadecimal digits in lower case")
        if make:
            with suppress(FileExistsError):
                os.mkdir(hexadecimal[:2], 0o700, dir_fd=self._root)
                os.fsync(self._root)
        with self._folder(hexadecimal[:2]) as shard:
            yield shard

    @contextmanager
    def _folder(self, name: str) -> Iterator[int]:
        if self._root < 0:
            raise StoreUnavailable(f"{self._path} is not open")
        descriptor = os.open(name, _FOLDER, dir_fd=self._root)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _disk_has_room_for(self, size_bytes: int) -> bool:
        if not self._keep_free_bytes:
            return True
        disk = os.fstatvfs(self._root)
        return disk.f_bavail * disk.f_frsize - size_bytes >= self._keep_free_bytes

    def _remove_leftovers(self) -> None:
        """Remove what nobody is writing any more."""
        with self._folder(_INCOMING) as incoming:
            for name in os.listdir(incoming):
                with suppress(OSError):  # somebody else may tidy up as well
                    file = os.open(name, _READ, dir_fd=incoming)
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        os.unlink(name, dir_fd=incoming)
                    finally:
                        os.close(file)

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreUnavailable(f"{self._path}: {error.strerror}; check the folder of the blobs") from error


def _checked_holder(holder: str) -> str:
    if _HOLDER.fullmatch(holder) is None:
        raise ValueError(f"found {holder[:80]!r}, expected a holder of 32 hexadecimal digits")
    return holder


def _status(name: str, folder: int) -> os.stat_result | None:
    """What is known of a file; None where there is none."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def _read(name: str, folder: int, size_bytes: int = -1, *, max_bytes: int = ANY_SIZE) -> bytes:
    descriptor = os.open(name, _READ, dir_fd=folder)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > max_bytes:
            raise FileNotFoundError(errno.ENOENT, "is no file, or too large", name)
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(size_bytes)
    finally:
        os.close(descriptor)


def _write_all(file: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(file, rest) :]


def _touch(name: str, folder: int, at_ms: int) -> None:
    """Make an empty file, with this time of change."""
    file = os.open(name, _MAKE, 0o600, dir_fd=folder)
    try:
        os.utime(file, ns=(at_ms * _MS, at_ms * _MS))
    finally:
        os.close(file)


def _remove_older(name: str, folder: int, aside: int, before_ms: int) -> bool:
    """Remove a file that has not changed since; whether that was done. Raises FileNotFoundError.

    It is put aside and then looked at again: what takes its place meanwhile stays.
    """
    if _is_younger(name, folder, before_ms):
        return False
    out_of_sight = f"{name}.{secrets.token_hex(8)}"
    os.rename(name, out_of_sight, src_dir_fd=folder, dst_dir_fd=aside)
    if _is_younger(out_of_sight, aside, before_ms):
        os.rename(out_of_sight, name, src_dir_fd=aside, dst_dir_fd=folder)
        return False
    os.unlink(out_of_sight, dir_fd=aside)
    return True


def _is_younger(name: str, folder: int, before_ms: int) -> bool:
    return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime_ns >= before_ms * _MS


def _entries_in(shard: int) -> Iterator[BlobEntry]:
    beside: dict[str, list[str]] = {}
    contents: list[str] = []
    for name in os.listdir(shard):
        hexadecimal, dot, rest = name.partition(".")
        if dot:
            beside.setdefault(hexadecimal, []).append(rest)
        elif is_blob_hash(name):
            contents.append(name)
    for name in sorted(contents):
        found = _status(name, shard)
        if found is None:
            continue
        about = beside.get(name, [])
        unused = _status(f"{name}.{_UNUSED}", shard) if _UNUSED in about else None
        yield BlobEntry(
            name,
            found.st_size,
            found.st_mtime_ns // _MS,
            None if unused is None else unused.st_mtime_ns // _MS,
            frozenset(filter(_HOLDER.fullmatch, about)),
        )
