"""How stock clients take what a server sends: the facts of wire.md sections 5 to 7, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from kora_daemon.model.delivery import DeliveryBatch
from kora_daemon.protocol.delta import decode_cursor
from kora_daemon.protocol.messages import Acknowledgment


class WatermarkClient:
    """A client of the delivery stream. `taken` are the delivery sequences it applied, in that order."""

    def __init__(self) -> None:
        self.watermark = 0
        self.taken: list[int] = []
        self.is_synced = False

    def connected(self, announced_maximum: int) -> None:
        """Its handshake was accepted: above the announced maximum it starts over."""
        self.is_synced = False
        if self.watermark > announced_maximum:
            self.watermark = 0
            self.taken = []

    def receive(self, batch: DeliveryBatch, *, fails: bool = False) -> Acknowledgment | None:
        """Take one batch; `fails` when an operation of it can't be applied just now."""
        assert batch.base is not None
        if batch.base > self.watermark:
            return None
        if batch.base < self.watermark:
            return Acknowledgment("a", batch.message_id, 0, self.watermark)
        if fails and batch.entries:
            return None
        self.taken += [entry.sequence for entry in batch.entries]
        self.watermark = batch.maximum
        self.is_synced = self.is_synced or batch.is_final
        return Acknowledgment("a", batch.message_id, 1 if batch.entries else 0, batch.maximum)


class VectorClient:
    """A client without a watermark. `numbers` says which sequence number of its author an operation has."""

    def __init__(self, numbers: Mapping[str, tuple[str, int]]) -> None:
        self._numbers = numbers
        self.vector: dict[str, int] = {}
        self.taken: list[str] = []
        self.cursor: str | None = None
        self.is_synced = False

    def connected(self) -> None:
        """Its handshake was accepted."""
        self.is_synced = False

    def wrote(self, node_id: str, number: int) -> None:
        """It made an operation of its own."""
        self.vector[node_id] = number

    def receive(self, batch: DeliveryBatch) -> Acknowledgment:
        """Take one batch; what it has already is no harm."""
        assert batch.base is None
        for entry in batch.entries:
            node_id, number = self._numbers[entry.operation_id]
            self.vector[node_id] = max(number, self.vector.get(node_id, 0))
            if entry.operation_id not in self.taken:
                self.taken.append(entry.operation_id)
        if not self.is_synced:
            self.cursor = batch.cursor if decode_cursor(batch.cursor) else self.cursor
        if batch.is_final:
            self.is_synced, self.cursor = True, None
        return Acknowledgment("a", batch.message_id, 1 if batch.entries else 0)
