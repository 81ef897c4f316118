"""The server-to-client stream: which part of the log to read next, and how to cut it into batches.

Two kinds of clients, two streams with the same four calls: `next_read` (what to read), `plan` (what to send of it),
`acknowledge` and `rewind_if_stalled`. A stream remembers positions, never operations: whatever was lost is read again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

from msgspec import Struct

from kora_daemon.model.delivery import DeliveryBatch, DeliveryEntry, Page
from kora_daemon.protocol.messages import Acknowledgment

RESEND_AFTER_MS = 2_000
RESEND_AT_MOST_EVERY_MS = 60_000
WINDOW_BYTES = 384 << 10
WINDOW_BATCHES = 16
"""Sent and not yet acknowledged; a peer that stalls costs this and a page, and no more. Several times what a stock
client applies in a round trip, and small enough that little of it is left over when a connection is cut. Larger than
most pages, so that the next one is on its way while a client has the last one to take."""
FIRST_WINDOW_BYTES = 128 << 10
"""The same for a peer that has not acknowledged anything yet. Most that stall never do: those cost a page."""


class LogSpan(Struct, frozen=True, gc=False):
    """Read the log in (after, upto]."""

    after: int
    upto: int


class LogPositions(Struct, frozen=True, gc=False):
    """Read the entries with these delivery sequences, in this order."""

    sequences: Sequence[int]


Read = LogSpan | LogPositions


class Progress(Struct, frozen=True, gc=False):
    """Up to which delivery sequence a client has acknowledged what it may see of the log, and was sent it."""

    acknowledged: int
    sent: int


class ResendTimer:
    """When to give up waiting for an acknowledgment: 2 s, doubling to 60 s while nothing moves."""

    def __init__(self) -> None:
        self.delay_ms = RESEND_AFTER_MS
        self.due_ms: int | None = None

    def arm(self, now_ms: int) -> None:
        """Something was sent that wants an acknowledgment."""
        if self.due_ms is None:
            self.due_ms = now_ms + self.delay_ms

    def progress(self, now_ms: int, *, waiting: bool) -> None:
        """The client acknowledged something; `waiting` for more."""
        self.delay_ms = RESEND_AFTER_MS
        self.due_ms = now_ms + self.delay_ms if waiting else None

    def expired(self, now_ms: int) -> bool:
        """True once per stall: then the delay has doubled and the timer is off until `arm`."""
        if self.due_ms is None or now_ms < self.due_ms:
            return False
        self.delay_ms = min(2 * self.delay_ms, RESEND_AT_MOST_EVERY_MS)
        self.due_ms = None
        return True


class _Sent(Struct, frozen=True, gc=False):
    message_id: str
    maximum: int
    size_bytes: int
    is_final: bool
    is_empty: bool

    def was_taken(self, message: Acknowledgment) -> bool:
        """Whether `message` says that the client applied this batch.

        A client that passes over a batch as a duplicate acknowledges it too, with the watermark that it has and
        sequence number 0.
        """
        return (
            message.acknowledged_message_id == self.message_id
            and message.delivery_sequence == self.maximum
            and (self.is_empty or message.last_sequence_number != 0)
        )


class WatermarkStream:
    """The delivery stream of wire.md section 5: batches chained base -> max.

    `scanned` is how far the log was looked through, `watermark` what the client holds once it took all that was sent,
    `acknowledged` what it said it holds. acknowledged <= watermark <= scanned.

    With `lacks_own` the client also gets its own operations of before the handshake: it may have lost its store.
    With `begins_anew` it holds more than `start`, and gives that up as soon as it reads the answer to its handshake.
    """

    def __init__(
        self, session: int, node_id: str, span: LogSpan, batch_size: int, *, lacks_own: bool, begins_anew: bool
    ) -> None:
        self._session = session
        self._node_id = node_id
        self._batch_size = batch_size
        start, frontier = span.after, span.upto
        self._own_upto = frontier if lacks_own else 0
        self._begins_anew = begins_anew
        self._target = frontier
        self._settled = False
        self.was_taken = False
        """Whether the client has taken a batch of this stream."""
        self.catching_up = True
        self._index = 0
        self.scanned = self.watermark = self.acknowledged = self._highest_sent = start
        self._flight: deque[_Sent] = deque()
        self._flight_bytes = 0
        self._window_bytes = FIRST_WINDOW_BYTES
        self._timer = ResendTimer()

    @property
    def resend_due_ms(self) -> int | None:
        """When an overdue acknowledgment will count as lost; None while none is waited for."""
        return self._timer.due_ms

    @property
    def progress(self) -> Progress:
        """How far the client is. With nothing under way it has all that was looked through."""
        return Progress(self.acknowledged if self._flight or self.catching_up else self.scanned, self.scanned)

    def next_read(self, frontier: int) -> Read | None:
        """What to read now; None when all is sent or the client has to acknowledge first."""
        if self._flight_bytes >= self._window_bytes or len(self._flight) >= WINDOW_BATCHES:
            return None
        if self.catching_up:
            return LogSpan(self.scanned, max(self._target, self.scanned))
        return LogSpan(self.scanned, frontier) if frontier > self.scanned else None

    @property
    def live_at(self) -> int | None:
        """How far the log was looked through, None while the client still catches up."""
        return None if self.catching_up else self.scanned

    def lag(self, frontier: int) -> int:
        """How far the client is behind. Without anything under way it is as far as the log was looked through."""
        return max(frontier - (self.acknowledged if self._flight else self.scanned), 0)

    def pass_over(self, upto: int) -> None:
        """Nothing up to there is visible; for a stream that is live."""
        self.scanned = upto

    def plan(self, page: Page, now_ms: int, next_id: Callable[[], str]) -> list[DeliveryBatch]:
        """The batches to send of a page that was read for `next_read`, which may end early."""
        self.scanned = page.upto
        completes = self.catching_up and page.upto >= self._target
        batches = self._cut(page, next_id, completes=completes)
        if self.catching_up:
            self._index += len(batches)
            self.catching_up = not completes
        for batch in batches:
            self._sent(batch, now_ms)
        return batches

    def _sent(self, batch: DeliveryBatch, now_ms: int) -> None:
        self.watermark = batch.maximum
        self._highest_sent = max(self._highest_sent, batch.maximum)
        size_bytes = batch.size_bytes
        self._flight.append(_Sent(batch.message_id, batch.maximum, size_bytes, batch.is_final, not batch.entries))
        self._flight_bytes += size_bytes
        self._timer.arm(now_ms)

    def _cut(self, page: Page, next_id: Callable[[], str], *, completes: bool) -> list[DeliveryBatch]:
        cut = _Cut(
            self.watermark,
            self._index if self.catching_up else 0,
            self._batch_size,
            final=completes or not self.catching_up,
            forced=completes,
        )
        hides_own = page.upto > self._own_upto and self._node_id in page.authors
        has_own = hides_own or self._session in page.origins
        if self.catching_up or has_own:
            # A cut for this client alone. In a download always: it may still acknowledge what its last connection sent,
            # and nothing of that may count for this one.
            hidden, entries = self._node_id if hides_own else None, page.entries
            if has_own:
                entries = [entry for entry in entries if entry.node_id != hidden and entry.origin != self._session]
            return _chain(entries, page, cut, next_id)
        batches = page.plans.get(cut)
        if batches is None:
            batches = page.plans[cut] = _chain(page.entries, page, cut, next_id)
        return batches

    def acknowledge(self, message: Acknowledgment, now_ms: int) -> bool:
        """The client holds everything up to the acknowledgment's delivery sequence; True = start over from there.

        It may hold more than this session sent: frames of its previous connection that it had not applied yet move its
        watermark after the handshake. What is under way then counts as a duplicate, the final batch included, and
        without another final batch a stock client would wait in `syncing` for ever. One that begins anew gives up what
        it has taken of those: then only what names a batch of this stream counts.
        """
        if self._begins_anew and all(sent.message_id != message.acknowledged_message_id for sent in self._flight):
            return False
        sequence = message.delivery_sequence
        if type(sequence) is not int or not self.acknowledged <= sequence <= max(self._highest_sent, self._target):
            return False
        taken = next((sent for sent in self._flight if sent.was_taken(message)), None)
        if taken is None and sequence == self.acknowledged:
            return False
        self.was_taken = self.was_taken or taken is not None
        self._settled = self._settled or (taken is not None and taken.is_final)
        aligned = False
        while self._flight and self._flight[0].maximum <= sequence:
            landed = self._flight.popleft()
            self._flight_bytes -= landed.size_bytes
            aligned = landed.maximum == sequence
        self.acknowledged = sequence
        self._window_bytes = WINDOW_BYTES
        self._timer.progress(now_ms, waiting=bool(self._flight))
        if aligned and (self._flight or self._settled or self.catching_up):
            return False
        self._restart()
        return True

    def rewind_if_stalled(self, now_ms: int) -> bool:
        """Go back to the acknowledged position when acknowledgments are overdue."""
        if not self._timer.expired(now_ms):
            return False
        self._restart()
        return True

    def _restart(self) -> None:
        self._timer.due_ms = None
        self.scanned = self.watermark = self.acknowledged
        self.catching_up = not self._settled
        self._index = 0
        self._flight.clear()
        self._flight_bytes = 0


class _Cut(NamedTuple):
    """What the batches of a page depend on besides the page: `forced` sends a final batch even without content."""

    base: int
    first_index: int
    size: int
    final: bool
    forced: bool


def _chain(entries: list[DeliveryEntry], page: Page, cut: _Cut, next_id: Callable[[], str]) -> list[DeliveryBatch]:
    batches: list[DeliveryBatch] = []
    base = cut.base
    bounds = _bounds(entries, page.apart, cut.size)
    for first, end in pairwise(bounds):
        chunk = entries[first:end]
        final = cut.final and end == len(entries)
        # Behind a scan's last batch nothing visible follows: the client may skip all that was looked through.
        maximum = page.upto if final else chunk[-1].sequence
        batches.append(DeliveryBatch(next_id(), chunk, final, cut.first_index + len(batches), base, maximum))
        base = maximum
    if cut.forced and not batches:
        batches.append(DeliveryBatch(next_id(), [], True, cut.first_index, base, page.upto))
    return batches


def _bounds(entries: list[DeliveryEntry], apart: Sequence[int], size: int) -> list[int]:
    """Where batches begin, and the end: where they have to, and after `size` entries at the latest."""
    bounds = [0]
    for begin in (*(bisect_left(entries, sequence, key=attrgetter("sequence")) for sequence in apart), len(entries)):
        bounds += range(bounds[-1] + size, begin, size)
        if begin > bounds[-1]:
            bounds.append(begin)
    return bounds
