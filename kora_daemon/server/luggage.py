"""What connections bring along before anybody knows them: a little each, and of all that is more so much in total.

A handshake may have megabytes, for a version vector of many devices. A thousand strangers who send that much, and no
end of it, would fill the memory.
"""

from __future__ import annotations

from typing import Final

HAND_LUGGAGE_BYTES: Final = 64 << 10
"""Of any one."""
MOST_BYTES: Final = 64 << 20
"""Of all that have more than that."""


class LuggageRoom:
    """Where it is kept."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self.taken_bytes = 0


class Luggage:
    """Of one connection, until it is known or gone."""

    def __init__(self, room: LuggageRoom) -> None:
        self._room = room
        self._bytes = 0

    def fits(self, size_bytes: int) -> bool:
        """Whether there is room for so much of it; then that is taken, and given back by `leave` only."""
        more = size_bytes - self._bytes
        if size_bytes <= HAND_LUGGAGE_BYTES or more <= 0:
            return True
        if self._room.taken_bytes + more > self._room.most_bytes:
            return False
        self._bytes += more
        self._room.taken_bytes += more
        return True

    def leave(self) -> None:
        """It needs no room any more."""
        self._room.taken_bytes -= self._bytes
        self._bytes = 0
