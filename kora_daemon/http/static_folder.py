"""Opening files below a folder without ever leaving it: name by name, and no link is followed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

_OPEN = os.O_RDONLY | os.O_CLOEXEC
_NOT_THERE = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ENXIO, errno.EMLINK}
)
"""Not there, no folder, a link, not ours to read, too long a name, a socket. Whatever else goes wrong is an error."""


class Folder:
    """A folder that is held open: what is opened through it belongs to one deployment, whatever is put in its place."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    @contextmanager
    def below(self, names: Sequence[str]) -> Iterator[Folder | None]:
        """The folder that these names lead to, None where they lead to none."""
        handles: list[int] = []
        try:
            here = self._handle
            for name in names:
                handle = _opened(name, os.O_DIRECTORY | os.O_NOFOLLOW, here)
                if handle is None:
                    yield None
                    return
                handles.append(handle)
                here = handle
            yield Folder(here)
        finally:
            for handle in handles:
                os.close(handle)

    def file(self, name: str) -> BinaryIO | None:
        """The regular file of this name, open; None where there is none. Raises OSError."""
        # A pipe would let us wait for whoever writes into it.
        handle = _opened(name, os.O_NOFOLLOW | os.O_NONBLOCK, self._handle)
        if handle is None:
            return None
        if not S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            return None
        return os.fdopen(handle, "rb", buffering=0)


@contextmanager
def opened_folder(path: Path) -> Iterator[Folder | None]:
    """The folder at a path, None where there is none now; that it is a link is the operator's own doing."""
    handle = _opened(path, os.O_DIRECTORY, None)
    if handle is None:
        yield None
        return
    try:
        yield Folder(handle)
    finally:
        os.close(handle)


def _opened(name: str | Path, flags: int, folder: int | None) -> int | None:
    try:
        return os.open(name, _OPEN | flags, dir_fd=folder)
    except OSError as error:
        if error.errno in _NOT_THERE:
            return None
        raise
