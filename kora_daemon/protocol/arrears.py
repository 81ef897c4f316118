"""What a client uploads right behind its handshake: all that the answer's version vector lacks, up to a final batch."""

from __future__ import annotations

from msgspec import Struct

from kora_daemon.protocol.messages import OperationBatch

PATIENCE_MS = 5_000
"""For the next batch of them. Stock clients send it at once, and at least one batch, which may be empty."""


class Arrears(Struct):
    """The arrears of one client. `offered` is up to which number of its own the server has heard from it.

    `has_gaps`: it was asked for operations that it may have withheld. `due_ms`: nothing is sent to it before they are
    in, or this moment; None where that does not matter.
    """

    node_id: str = ""
    offered: int = 0
    has_gaps: bool = False
    due_ms: int | None = None
    is_in: bool = False

    def wait(self, elapsed_ms: int) -> None:
        """Let the client's own stream wait for them.

        Where each message comes over a connection of its own, order is kept by one batch being under way at a time. A
        client whose download is complete sends the next batch at any acknowledgment: those of its arrears must be out.
        """
        self.due_ms = elapsed_ms + PATIENCE_MS

    def took(self, batch: OperationBatch, elapsed_ms: int) -> int | None:
        """Note a batch. With the final one: up to which number gaps are there for good, None where there are none.

        A client that was asked for what it had withheld has sent what it wants to, as long as the view is this one
        (scopes.md section 8). That goes for numbers below what it has sent itself, since a number that somebody made up
        in its name must not hide what it writes later.
        """
        if self.due_ms is not None:
            self.wait(elapsed_ms)
        self.is_in = self.is_in or batch.is_final
        if not self.has_gaps:
            return None
        own = (one.sequence_number for one in batch.operations if one.node_id == self.node_id)
        self.offered = max(self.offered, max(own, default=0))
        if not batch.is_final:
            return None
        self.has_gaps = False
        return self.offered

    def stop_waiting(self) -> None:
        """All of them are acknowledged, or don't come."""
        self.due_ms = None
