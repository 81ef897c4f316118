"""Which file of an app's folder a path is about, and its content as it is to be sent."""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import trio
from msgspec import Struct

from kora_daemon.http.static_folder import Folder, opened_folder
from kora_daemon.server.threads import ThreadPool

INDEX = "index.html"
WHOLE_BYTES = 64 << 10
"""Files up to this size are read at once, and known by what is in them."""
PIECE_BYTES = 128 << 10
SUFFIXES = {"br": ".br", "zstd": ".zst", "gzip": ".gz"}
"""Encoding -> how the compressed file beside a file is called; the first ones are preferred."""
LEFT_OVER_S = 60
"""A compressed file that is so much older than its original is of an earlier build."""


class Wanted(Struct, frozen=True):
    """A path's names, an empty last one for a folder; the encodings that may be sent; whether `INDEX` does instead."""

    names: Sequence[str]
    encodings: Sequence[str] = ()
    or_index: bool = False


class Content(Struct):
    """Of a file: all of it in `whole`, or an open `file`. `names` says where it lies, `modified_s` since when."""

    names: Sequence[str]
    encoding: str | None
    size_bytes: int
    etag: str
    modified_s: int
    whole: bytes = b""
    file: BinaryIO | None = None


class FolderAt(Struct, frozen=True):
    """The path is that of a folder with an index, but for a slash at its end."""


def find(root: Path, wanted: Wanted) -> Content | FolderAt | None:
    """What is to be sent, None for nothing. Blocks. Raises OSError, and FileNotFoundError without the folder."""
    with opened_folder(root) as app:
        if app is None:
            raise FileNotFoundError(f"{root} is not there")
        *path, name = wanted.names
        with app.below(path) as folder:
            found = None if folder is None else _in_folder(folder, path, name, wanted.encodings)
        if found is None and wanted.or_index:
            found = _content(app, [], INDEX, wanted.encodings)
        return found


def _in_folder(folder: Folder, path: list[str], name: str, encodings: Sequence[str]) -> Content | FolderAt | None:
    if name:
        found = _content(folder, path, name, encodings)
        if found is not None:
            return found
        with folder.below([name]) as inner:
            index = None if inner is None else inner.file(INDEX)
            if index is None:
                return None
            index.close()
            return FolderAt()
    return _content(folder, path, INDEX, encodings)


def _content(folder: Folder, path: list[str], name: str, encodings: Sequence[str]) -> Content | None:
    original = folder.file(name)
    if original is None:
        return None
    for encoding in encodings:
        compressed = folder.file(name + SUFFIXES[encoding])
        if compressed is None:
            continue
        if os.fstat(compressed.fileno()).st_mtime < os.fstat(original.fileno()).st_mtime - LEFT_OVER_S:
            compressed.close()
            continue
        original.close()
        return _read([*path, name], encoding, compressed)
    return _read([*path, name], None, original)


def _read(names: list[str], encoding: str | None, file: BinaryIO) -> Content:
    found = os.fstat(file.fileno())
    # What a build tool or a copy says of the time may be anything; when it got here is certain.
    modified_s = int(max(found.st_mtime, found.st_ctime))
    if found.st_size > WHOLE_BYTES:
        etag = f'"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}-{found.st_ctime_ns:x}"'
        return Content(names, encoding, found.st_size, etag, modified_s, file=file)
    with file:
        whole = file.read(WHOLE_BYTES) or b""
    return Content(names, encoding, len(whole), f'"{blake2b(whole, digest_size=12).hexdigest()}"', modified_s, whole)


class Pieces:
    """A part of a file, read piece by piece; `aclose` closes it."""

    def __init__(self, file: BinaryIO, start: int, length: int, threads: ThreadPool) -> None:
        self._file = file
        self._at = start
        self._left = length
        self._threads = threads

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        size, at = min(self._left, PIECE_BYTES), self._at
        piece = await self._threads.run(lambda: os.pread(self._file.fileno(), size, at))
        if not piece:
            raise trio.BrokenResourceError("the file has become shorter meanwhile")
        self._at += len(piece)
        self._left -= len(piece)
        return piece

    async def aclose(self) -> None:
        """Close the file."""
        self._file.close()
