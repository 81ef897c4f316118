"""The states of the records that were written last, so that the next write need not read them again."""

from __future__ import annotations

from collections import OrderedDict

from kora_daemon.materialization.fold import RecordState
from kora_daemon.model.record import RecordKey

MAX_KNOWN_BYTES = 4 << 20
"""Of states as text; in memory they take about four times as much. Beyond, whoever was written longest ago goes."""

Position = tuple[int, ...]
"""Numbers in the database of which at least one moves with whatever changes states."""


class KnownStates:
    """States as the database has them, of some of the records with a saved state: their rows are there.

    Good for the transaction that begins at the position where the last one ended. Others may write to the database in
    between, and one that fails leaves no position.
    """

    def __init__(self, max_bytes: int = MAX_KNOWN_BYTES) -> None:
        self._max_bytes = max_bytes
        self._position: Position | None = None
        # Of a plain dict the oldest entry is behind all the places of those that went before.
        self._states: OrderedDict[RecordKey, tuple[RecordState, int]] = OrderedDict()
        self._bytes = 0

    def begin(self, position: Position) -> None:
        """A transaction begins at this position."""
        if position != self._position:
            self.clear()
        self._position = None

    def end(self, position: Position) -> None:
        """It was committed, and has left the database at this one."""
        self._position = position

    def clear(self) -> None:
        """Nothing is known any more."""
        self._states.clear()
        self._bytes = 0

    def get(self, key: RecordKey) -> RecordState | None:
        """The state of a record, None where it is not known."""
        found = self._states.get(key)
        return None if found is None else found[0]

    def put(self, key: RecordKey, state: RecordState, length: int) -> None:
        """Take the state of a record as it is saved now; `length` is that of its text."""
        before = self._states.pop(key, None)
        self._bytes += length - (0 if before is None else before[1])
        self._states[key] = state, length
        while self._bytes > self._max_bytes:
            _, (_, oldest) = self._states.popitem(last=False)
            self._bytes -= oldest
