"""How the servers on one database talk to each other."""

from __future__ import annotations

from typing import Protocol


class Channel(Protocol):
    """Carries words between the servers on one database. All but `fileno` may block, and raise StoreError."""

    def open(self) -> None:
        """Connect and listen; what was said before is not heard. Opens anew what is open."""
        ...

    def close(self) -> None:
        """Give everything back. Idempotent."""
        ...

    def fileno(self) -> int:
        """Readable as soon as there may be something to drain."""
        ...

    def drain(self) -> tuple[int | None, list[bytes]]:
        """What was heard since: the largest delivery sequence that another server has committed, and all words.

        May have to ask for the words, so it may block for a moment.
        """
        ...

    def send(self, word: bytes) -> None:
        """Say a word of any length to all others, and perhaps oneself."""
        ...
