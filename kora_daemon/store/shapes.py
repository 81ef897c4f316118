"""What a store knows of its tables without asking: the shapes, and the rows that are still to be made again."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kora_daemon.materialization.shape import Refill, Shape, decode_refill, decode_shape
from kora_daemon.model.record import RecordKey


class ShapeCache:
    """The shapes as of `generation`, a number in the database that moves with them."""

    def __init__(self) -> None:
        self.generation = -1
        self.shapes: dict[str, Shape] = {}
        self.refills: dict[str, Refill] = {}

    def refresh(self, generation: int, read: Callable[[], Iterable[tuple[str, str, str | None]]]) -> None:
        """Read again (name, shape, refill) if they have changed since."""
        if generation == self.generation:
            return
        rows = list(read())
        self.shapes = {name: decode_shape(shape) for name, shape, _ in rows}
        self.refills = {name: decode_refill(refill) for name, _, refill in rows if refill is not None}
        self.generation = generation

    def forget(self) -> None:
        """Trust nothing: a transaction that changed shapes did not come to its end."""
        self.generation = -1

    def has_state(self, key: RecordKey) -> bool:
        """Whether the state of a record is saved, if it has one: not while the log is still to be gone through."""
        refill = self.refills.get(key.collection)
        return refill is None or refill.covers(key.record_id)
