"""The stream of clients without a watermark (wire.md section 6): a causal delta, then the log as it grows."""

from __future__ import annotations

import base64
import binascii
import json
from collections import deque
from collections.abc import Callable, Sequence

from msgspec import Struct

from kora_daemon.model.delivery import DeliveryBatch, Page
from kora_daemon.protocol.delivery import (
    FIRST_WINDOW_BYTES,
    WINDOW_BYTES,
    LogPositions,
    LogSpan,
    Progress,
    Read,
    ResendTimer,
)
from kora_daemon.protocol.messages import Acknowledgment

WINDOW_BATCHES = 8
"""Batches of the delta under way at a time."""


def encode_cursor(operation_id: str, batch_index: int) -> str:
    """base64url text, without padding, of the last operation of a batch and the batch's index."""
    text = json.dumps({"lastOperationId": operation_id, "batchIndex": batch_index}, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def decode_cursor(cursor: object) -> str | None:
    """The operation id inside a cursor, None for anything that is no cursor."""
    if not isinstance(cursor, str):
        return None
    try:
        decoded = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return None
    operation_id = decoded.get("lastOperationId") if isinstance(decoded, dict) else None
    return operation_id if isinstance(operation_id, str) else None


def resume_after(ids: Sequence[str], cursor: object) -> int:
    """Index of the first operation after the cursor's in causal order; 0 when it is not among them."""
    operation_id = decode_cursor(cursor)
    if operation_id is None:
        return 0
    try:
        return ids.index(operation_id) + 1
    except ValueError:
        return 0


class _Sent(Struct, frozen=True, gc=False):
    message_id: str
    of_delta: bool
    size_bytes: int
    position: int
    """Operations of the delta, or the delivery sequence, that the client has once it took this batch."""


class VectorStream:
    """Sends the delta in causal order, then every batch of the growing log alone.

    While streaming only one batch is under way: what such a client has is then always a prefix of what was sent, so
    its next version vector tells the loss and nothing has to be kept for it here.
    """

    def __init__(self, session: int, node_id: str, frontier: int, delta: Sequence[int], batch_size: int) -> None:
        self._session = session
        self._node_id = node_id
        self._batch_size = batch_size
        self._delta = delta
        self._delta_sent = self._delta_taken = 0
        self._total = max(1, -(-len(delta) // batch_size))
        self._index = 0
        self._settled = False
        self.was_taken = False
        """Such a client keeps no position, so there is nothing to be remembered for it."""
        self.catching_up = True
        self.scanned = self._taken = frontier
        self._flight: deque[_Sent] = deque()
        self._timer = ResendTimer()

    @property
    def resend_due_ms(self) -> int | None:
        """When an overdue acknowledgment will count as lost; None while none is waited for."""
        return self._timer.due_ms

    @property
    def progress(self) -> Progress:
        """How far the client is; the delta counts once it is taken as a whole, since it is in no order of the log."""
        return Progress(self._taken if self._settled else 0, 0 if self.catching_up else self.scanned)

    def next_read(self, frontier: int) -> Read | None:
        """What to read now; None when all is sent or the client has to acknowledge first."""
        if self.catching_up:
            window_bytes = WINDOW_BYTES if self._delta_taken else FIRST_WINDOW_BYTES
            if len(self._flight) >= WINDOW_BATCHES or sum(sent.size_bytes for sent in self._flight) >= window_bytes:
                return None
            return LogPositions(self._delta[self._delta_sent : self._delta_sent + self._batch_size])
        return LogSpan(self.scanned, frontier) if frontier > self.scanned and not self._flight else None

    @property
    def live_at(self) -> int | None:
        """How far the log was looked through, None while something is under way."""
        return None if self.catching_up or self._flight else self.scanned

    def lag(self, frontier: int) -> int:
        """How far the client is behind: operations of the delta that it has not taken yet, and what came after."""
        return len(self._delta) - self._delta_taken + max(frontier - self._taken, 0)

    def pass_over(self, upto: int) -> None:
        """Nothing up to there is visible; for a stream that is live."""
        self.scanned = self._taken = upto

    def plan(self, page: Page, now_ms: int, next_id: Callable[[], str]) -> list[DeliveryBatch]:
        """The batches to send of a page that was read for `next_read`, which may end early."""
        batches = self._plan_delta(page, next_id) if self.catching_up else self._plan_live(page, next_id)
        if batches:
            self._timer.arm(now_ms)
        return batches

    def _plan_delta(self, page: Page, next_id: Callable[[], str]) -> list[DeliveryBatch]:
        self._delta_sent = min(self._delta_sent + self._batch_size, len(self._delta))
        final = self._delta_sent >= len(self._delta)
        cursor = encode_cursor(page.entries[-1].operation_id, self._index) if page.entries else None
        batch = DeliveryBatch(next_id(), page.entries, final, self._index, total=self._total, cursor=cursor)
        self._index += 1
        self.catching_up = not final
        self._flight.append(_Sent(batch.message_id, True, batch.size_bytes, self._delta_sent))
        return [batch]

    def _plan_live(self, page: Page, next_id: Callable[[], str]) -> list[DeliveryBatch]:
        entries = [e for e in page.entries if e.node_id != self._node_id and e.origin != self._session]
        if len(entries) > self._batch_size:
            entries = entries[: self._batch_size]
            self.scanned = entries[-1].sequence
        else:
            self.scanned = page.upto
        if not entries:
            self._taken = self.scanned
            return []
        batch = DeliveryBatch(next_id(), entries, True, 0)
        self._flight.append(_Sent(batch.message_id, False, batch.size_bytes, self.scanned))
        return [batch]

    def acknowledge(self, message: Acknowledgment, now_ms: int) -> bool:
        """The client took the batch named, and all before it. Never a reason to start over (False)."""
        if all(sent.message_id != message.acknowledged_message_id for sent in self._flight):
            return False
        while self._flight:
            sent = self._flight.popleft()
            if sent.of_delta:
                self._delta_taken = sent.position
                self._settled = sent.position >= len(self._delta)
            else:
                self._taken = sent.position
            if sent.message_id == message.acknowledged_message_id:
                break
        self._timer.progress(now_ms, waiting=bool(self._flight))
        return False

    def rewind_if_stalled(self, now_ms: int) -> bool:
        """Go back to the acknowledged position when acknowledgments are overdue."""
        if not self._timer.expired(now_ms):
            return False
        self._flight.clear()
        if not self._settled:
            self.catching_up = True
            self._delta_sent = self._delta_taken
            self._index = self._delta_taken // self._batch_size
        self.scanned = self._taken
        return True
