"""`kora` with a clock that somebody else sets: `python -m tests.support.shifted_clock FILE serve …`

The file holds how far it is off, in nanoseconds. Only the clock on the wall is: what waits goes by the other one.
"""

from __future__ import annotations

import mmap
import struct
import sys
import time
from pathlib import Path

_FORM = struct.Struct("<q")
NS_PER_S = 10**9


class ShiftedClock:
    """The wall clock of a process that was started with `program`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.program = (sys.executable, "-m", "tests.support.shifted_clock", str(file))
        self.shift(0)

    def shift(self, seconds: float) -> None:
        """Let it be so far from the right time."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(_FORM.pack(int(seconds * NS_PER_S)))


def _follow(file: Path) -> None:
    with file.open("rb") as opened:
        offset = mmap.mmap(opened.fileno(), _FORM.size, prot=mmap.PROT_READ)
    right_ns = time.time_ns

    def time_ns() -> int:
        return right_ns() + int(_FORM.unpack(offset[:])[0])

    time.time_ns = time_ns
    time.time = lambda: time_ns() / NS_PER_S


if __name__ == "__main__":
    _follow(Path(sys.argv[1]))
    from koractl.app import main

    main(sys.argv[2:])
