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

    `says_total`: stock clients of its generation say in each batch of the first kind how many there are; so a batch
    that does not is of the other, unless the device turns out to be none of them.
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
        if self._caught_up and not says_total(upload):
            return True
        return bool(upload.batch_index == self._next_index)

    def lacks_total(self, upload: Glimpse) -> bool:
        """Whether a batch has no turn only because it does not say how many there are."""
        has_begun = self._caught_up or self._next_index > 0
        return self._says_total and not has_begun and upload.total_batches is UNSET

    def expect_no_total(self) -> None:
        """The device is not one of those that say it: go by the number of a batch alone."""
        self._says_total = False

    def took(self, upload: Glimpse) -> None:
        """Note that a batch was taken."""
        if self._caught_up and not says_total(upload):
            return
        self._caught_up = upload.is_final is True
        # A device that goes on with the answer to an earlier handshake begins once more.
        self._next_index = 0 if self._caught_up else self._next_index + 1


def says_total(upload: Glimpse) -> bool:
    """Whether a batch says how many there are."""
    return isinstance(upload.total_batches, int | float)
