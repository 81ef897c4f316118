"""A disk that loses power: what SQLite writes and syncs is recorded in order, and files are made of what may be left.

Certain is what was synced. Of what was written since, any sectors may have arrived, in any order, and of a deletion or
a new name in the folder either may hold, until the folder was synced, as SQLite does with the first sync of a new file.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import apsw

SECTOR_BYTES = 512
BASE = "unix"
MEMORY_SUFFIX = "-shm"
"""Is shared memory, and made anew by whoever opens the database first."""


class Opened(NamedTuple):
    """A file; it may be a new one."""

    file: str
    is_new: bool


class Wrote(NamedTuple):
    """Bytes in a file."""

    file: str
    offset: int
    data: bytes


class Cut(NamedTuple):
    """A file to a new size, in bytes."""

    file: str
    size: int


class Synced(NamedTuple):
    """A file: everything that was written before event number `begun` is certain now."""

    file: str
    begun: int


class Deleted(NamedTuple):
    """A file; `certain` when the folder was synced, too."""

    file: str
    certain: bool


class Told(NamedTuple):
    """Somebody that these operations are stored."""

    operations: Sequence[str]


Change = Wrote | Cut
Event = Opened | Wrote | Cut | Synced | Deleted | Told


class Disk:
    """The files of one database in `folder`; what is there at the beginning is certain."""

    def __init__(self, folder: Path) -> None:
        self.events: list[Event] = []
        self._before = {one.name: one.read_bytes() for one in folder.iterdir() if one.is_file() and _is_kept(one.name)}

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record what all connections do that are opened meanwhile."""
        vfs = _Vfs(self.events)
        try:
            yield
        finally:
            vfs.unregister()

    def told(self, operations: Iterable[str]) -> None:
        """Note that somebody was told that these are stored."""
        self.events.append(Told(list(operations)))

    def told_before(self, moment: int) -> list[str]:
        """What somebody was told is stored, before event number `moment`."""
        return [one for event in self.events[:moment] if isinstance(event, Told) for one in event.operations]

    def certain_before(self, moment: int, file: str) -> int:
        """Up to which event everything is certain that was written to a file before event number `moment`."""
        return max(
            (one.begun for one in self.events[:moment] if isinstance(one, Synced) and one.file == file), default=0
        )

    def left_at(self, moment: int, chance: random.Random) -> dict[str, bytes]:
        """File name -> content, of one of the many outcomes of a power loss after so many events."""
        folder = self._folder_at(moment)
        arrives = chance.choice([0.0, 0.1, 0.5, 0.9, 1.0])
        found: dict[str, bytes] = {}
        for name in sorted(folder.names | folder.gone.keys()):
            there = folder.media.get(name) if name in folder.names else None
            if name in folder.gone or name in folder.unsure:
                there = chance.choice([there, folder.gone.get(name)])
            if there is not None:
                found[name] = _left_of(name, there, arrives, chance)
        return found

    def at_the_end(self) -> dict[str, bytes]:
        """File name -> content when nothing goes wrong: what is really there, or something was not recorded."""
        folder = self._folder_at(len(self.events))
        return {name: _left_of(name, folder.media[name], 1.0, random.Random(0)) for name in folder.names}

    def _folder_at(self, moment: int) -> _Folder:
        folder = _Folder({name: _Medium(bytearray(content)) for name, content in self._before.items()})
        for number, event in enumerate(self.events[:moment]):
            folder.take(number, event)
        return folder


@dataclass
class _Medium:
    """What a file is for sure, and what was written since, each with the number of its event."""

    certain: bytearray
    unsure: list[tuple[int, Change]] = field(default_factory=list)

    def sync(self, begun: int) -> None:
        for number, change in self.unsure:
            if number < begun:
                _make(self.certain, change)
        self.unsure = [one for one in self.unsure if one[0] >= begun]


class _Folder:
    def __init__(self, media: dict[str, _Medium]) -> None:
        self.media = media
        self.names = set(media)
        self.gone: dict[str, _Medium] = {}
        """Deleted, and perhaps back after a power loss."""
        self.unsure: set[str] = set()
        """Names that are perhaps not there after it."""

    def take(self, number: int, event: Event) -> None:
        if isinstance(event, Opened):
            self._open(event)
        elif isinstance(event, Wrote | Cut):
            self.media[event.file].unsure.append((number, event))
        elif isinstance(event, Synced):
            self.media[event.file].sync(event.begun)
            if event.file in self.unsure:
                self._sync_names()
        elif isinstance(event, Deleted) and event.file in self.names:
            self.names.discard(event.file)
            self.unsure.discard(event.file)
            self.gone.setdefault(event.file, self.media[event.file])
            if event.certain:
                self._sync_names()

    def _open(self, event: Opened) -> None:
        if event.is_new or event.file not in self.names:
            self.media[event.file] = _Medium(bytearray())
            self.names.add(event.file)
        if event.is_new:
            self.unsure.add(event.file)

    def _sync_names(self) -> None:
        self.unsure.clear()
        self.gone.clear()


def _make(content: bytearray, change: Change) -> None:
    if isinstance(change, Cut):
        del content[change.size :]
        return
    content.extend(bytes(max(0, change.offset - len(content))))
    content[change.offset : change.offset + len(change.data)] = change.data


def _left_of(name: str, medium: _Medium, arrives: float, chance: random.Random) -> bytes:
    content = bytearray(medium.certain)
    for _, change in medium.unsure:
        for part in _sectors(change):
            if chance.random() < arrives:
                _make(content, _garbled(part, chance) if _may_be_garbled(name, arrives, chance) else part)
    return bytes(content)


def _sectors(change: Change) -> Iterator[Change]:
    if isinstance(change, Cut):
        yield change
        return
    start, end = change.offset, change.offset + len(change.data)
    while start < end:
        stop = min(end, (start // SECTOR_BYTES + 1) * SECTOR_BYTES)
        yield Wrote(change.file, start, change.data[start - change.offset : stop - change.offset])
        start = stop


def _may_be_garbled(name: str, arrives: float, chance: random.Random) -> bool:
    """The write-ahead log has checksums for sectors that were only half written."""
    return name.endswith("-wal") and arrives < 1.0 and chance.random() < 0.02


def _garbled(change: Change, chance: random.Random) -> Change:
    if isinstance(change, Cut):
        return change
    whole = chance.randrange(len(change.data))
    return change._replace(data=change.data[:whole] + chance.randbytes(len(change.data) - whole))


def _is_kept(name: str) -> bool:
    return not name.endswith((MEMORY_SUFFIX, ".lock", ".sock"))


class _Vfs(apsw.VFS):
    """The usual one, with a witness. Syncs are believed: the disk in question is the recorded one."""

    def __init__(self, events: list[Event]) -> None:
        self._events = events
        super().__init__("kora-recording", BASE, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        is_new = path is not None and not os.path.exists(path)
        file = _File(self._events, path, name, flags)
        if path is not None:
            self._events.append(Opened(os.path.basename(path), is_new))
        return file

    def xDelete(self, name: str, syncdir: bool) -> None:
        super().xDelete(name, syncdir)
        self._events.append(Deleted(os.path.basename(name), syncdir))


class _File(apsw.VFSFile):
    def __init__(self, events: list[Event], path: str | None, name: Any, flags: list[int]) -> None:
        self._events = events
        self._name = None if path is None else os.path.basename(path)
        super().__init__(BASE, name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        super().xWrite(data, offset)
        if self._name is not None:
            self._events.append(Wrote(self._name, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:
        super().xTruncate(newsize)
        if self._name is not None:
            self._events.append(Cut(self._name, newsize))

    def xSync(self, flags: int) -> None:
        del flags
        if self._name is not None:
            self._events.append(Synced(self._name, len(self._events)))
