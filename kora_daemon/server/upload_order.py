"""Which upload of a device has its turn, where each comes over a connection of its own (wire.md sections 4 and 7)."""

from __future__ import annotations

from msgspec import UNSET

from kora_daemon.wire.glimpse import Glimpse


class UploadOrder:
    """What was taken of a device, and what has to come next.

    A device first sends what it wrote while it was away, as batches 0, 1, … to a final one, all at once; from then on
    one at a time, each when the one before was acknowledged. A later one must not be taken while an earlier one may
    still get lost: the server's version vector would say that it has everything up to there, and the device would never
    offer it again.

    `says_total`: it says in each batch of the first kind how many there are, where that can be said; so a batch that
    does not is of the other.
    """

    def __init__(self, *, says_total: bool) -> None:
        self._says_total = says_total
        self._next_index = 0
        self._caught_up = False

    def has_turn(self, upload: Glimpse) -> bool:
        """Whether everything that comes before this batch was taken. What is no batch may always come."""
        if not isinstance(upload.batch_index, int | float):
            return True
        if upload.total_batches is UNSET and self._says_total:
            return self._caught_up
        if self._caught_up and not _says_total(upload):
            return True
        return bool(upload.batch_index == self._next_index)

    def took(self, upload: Glimpse) -> None:
        """Note that a batch was taken."""
        if self._caught_up and not _says_total(upload):
            return
        self._caught_up = upload.is_final is True
        # A device that goes on with the answer to an earlier handshake begins once more.
        self._next_index = 0 if self._caught_up else self._next_index + 1


def _says_total(upload: Glimpse) -> bool:
    return isinstance(upload.total_batches, int | float)
