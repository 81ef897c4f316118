"""How much a blob store may hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from time import monotonic

_COUNTED_FOR_S = 3600.0
"""Other processes add and delete, too: after this time the count is not believed any more."""
_COUNTED_WHEN_FULL_FOR_S = 60.0


class Quota:
    """Room for at most `max_bytes`, 0 = any number. `measure` counts what is there, and may take a while.

    Threads ask one after the other. What another process on the same store adds shows with the next count.
    """

    def __init__(self, max_bytes: int, measure: Callable[[], int]) -> None:
        self._max_bytes = max_bytes
        self._measure = measure
        self._lock = Lock()
        self._used_bytes = 0
        self._taken_bytes = 0
        """By what is being written."""
        self._measured_at = -_COUNTED_FOR_S

    @contextmanager
    def room_for(self, size_bytes: int) -> Iterator[bool]:
        """Whether there is room for so many bytes, which are there at the end of the block unless it raises."""
        has_room = self._take(size_bytes)
        try:
            yield has_room
        except BaseException:
            self._settle(size_bytes if has_room else 0, kept=False)
            raise
        self._settle(size_bytes if has_room else 0, kept=True)

    def _take(self, size_bytes: int) -> bool:
        if not self._max_bytes:
            return True
        with self._lock:
            self._count_again_after(_COUNTED_FOR_S)
            if not self._has_room_for(size_bytes):
                self._count_again_after(_COUNTED_WHEN_FULL_FOR_S)
            has_room = self._has_room_for(size_bytes)
            self._taken_bytes += size_bytes if has_room else 0
        return has_room

    def _settle(self, size_bytes: int, *, kept: bool) -> None:
        if self._max_bytes:
            with self._lock:
                self._taken_bytes -= size_bytes
                self._used_bytes += size_bytes if kept else 0

    def _has_room_for(self, size_bytes: int) -> bool:
        return self._used_bytes + self._taken_bytes + size_bytes <= self._max_bytes

    def _count_again_after(self, seconds: float) -> None:
        if monotonic() - self._measured_at >= seconds:
            self._used_bytes = self._measure()
            self._measured_at = monotonic()
