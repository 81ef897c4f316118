"""What a client uploads right behind its handshake: all that the answer's version vector lacks, up to a final batch."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from kora_daemon.model.node import NodeNews
from kora_daemon.model.view import View
from kora_daemon.protocol.messages import Message, OperationBatch, OperationRejected
from kora_daemon.protocol.resume import view_digest

PATIENCE_MS = 5_000
"""For the next batch of them. Stock clients send it at once, and at least one batch, which may be empty."""
HEARD_MS = 3_000
"""A client of which something is heard so long after it was told something has heard that, too. One that goes before
offers all behind the gap once more."""


class Arrears(Struct):
    """The arrears of one client. `offered` is up to which number of its own it has sent what it wants to.

    `has_gaps`: it was asked for operations that it may have withheld. `due_ms`: nothing is sent to it before they are
    in, or this moment; None where that does not matter. `settles_ms`: when what it has sent and the server does not
    have counts as settled, for good.
    """

    node_id: str = ""
    offered: int = 0
    has_gaps: bool = False
    due_ms: int | None = None
    settles_ms: int | None = None
    is_in: bool = False
    _is_refused: bool = False
    """Some of it, and the client was told."""
    _settles_upto: int = 0

    def wait(self, elapsed_ms: int) -> None:
        """Let the client's own stream wait for them.

        Where each message comes over a connection of its own, order is kept by one batch being under way at a time. A
        client whose download is complete sends the next batch at any acknowledgment: those of its arrears must be out.
        """
        self.due_ms = elapsed_ms + PATIENCE_MS

    def took(self, batch: OperationBatch, elapsed_ms: int) -> None:
        """Note a batch.

        A client that was asked for what it had withheld sends what it wants to, as long as the view is this one
        (scopes.md section 8). That goes for numbers below what it has sent itself, since a number that somebody made up
        in its name must not hide what it writes later. Nobody else is known to have sent more than what has no gap.
        """
        if self.due_ms is not None:
            self.wait(elapsed_ms)
        is_asked = self.has_gaps and not self.is_in
        for one in batch.operations:
            number = one.sequence_number
            if number > self.offered and one.node_id == self.node_id and (is_asked or number == self.offered + 1):
                self.offered = number
        self.is_in = self.is_in or batch.is_final

    def answered(self, told: Iterable[Message], elapsed_ms: int, *, is_all: bool) -> None:
        """The client was `told` what became of its oldest batch; `is_all`: and of every one.

        What is settled is not offered again, so nobody would refuse it again either, and refusals get lost with a
        connection. Clients that know none go offline, to come again with the same: no waiting for them.
        """
        is_refused = any(isinstance(one, OperationRejected) for one in told)
        self._is_refused = self._is_refused or is_refused
        if not (self.is_in and is_all):
            return
        if self.has_gaps or is_refused or (self._is_refused and self.settles_ms is None):
            self.settles_ms = elapsed_ms + (HEARD_MS if self._is_refused else 0)
            self._settles_upto = self.offered
        self.has_gaps = False

    def settle(self, view: View, heard_ms: int) -> list[NodeNews]:
        """What is to be remembered when gaps are there for good. The client was last heard at `heard_ms`."""
        if self.settles_ms is None or self.settles_ms > heard_ms:
            return []
        self.settles_ms, self._is_refused = None, False
        return [NodeNews(self.node_id, settled=view_digest(view), settled_upto=self._settles_upto)]

    def next_due(self, stream_ms: int | None) -> int | None:
        """When something is due; the client's stream, which waits for these, is at `stream_ms`."""
        next_ms = stream_ms if self.due_ms is None else self.due_ms
        if next_ms is None or self.settles_ms is None:
            return self.settles_ms if next_ms is None else next_ms
        return min(next_ms, self.settles_ms)

    def stop_waiting(self) -> None:
        """All of them are acknowledged, or don't come."""
        self.due_ms = None
