"""Late arrivals: operations that are older than others of their record, folded in where they belong.

Each of them changes the state from its place on, so folding all operations again for each would make a device that
comes back after a long time, or says so, hold up everybody. Most changes are soon overwritten: from where the state is
what it was before, it stays so.
"""

from __future__ import annotations

from bisect import bisect_right, insort_right
from collections.abc import Iterable
from typing import Final, NamedTuple

from msgspec.structs import replace

from kora_daemon.materialization.fold import OrderKey, RecordState, advance, read_data
from kora_daemon.model.jsvalue import JsonValue
from kora_daemon.model.operation import Operation

MOST_BYTES: Final = 64 << 20
"""Of all histories that are held in memory during a write."""
_STEP_BYTES: Final = 1_000
_BLOCK: Final = 64


class _Step(NamedTuple):
    """An operation, and its data, read."""

    operation: Operation
    data: JsonValue

    @property
    def place(self) -> OrderKey:
        return self.operation.timestamp.order_key


class _Block(NamedTuple):
    """Some operations in a row, and the state behind them."""

    steps: list[_Step]
    after: RecordState


def _place_of(step: _Step) -> OrderKey:
    return step.place


def _last_place_of(block: _Block) -> OrderKey:
    return block.steps[-1].place


class History:
    """The operations of one record in clock order, those with equal timestamps in delivery order."""

    def __init__(self, blocks: list[_Block], size_bytes: int) -> None:
        self._blocks = blocks
        self.size_bytes = size_bytes
        """What it takes of memory, near enough."""
        self._tried: tuple[Operation, list[_Block], int] | None = None

    @classmethod
    def of(cls, operations: Iterable[Operation], most_bytes: int) -> History | None:
        """Read it; None when it is too large to be held."""
        blocks: list[_Block] = []
        steps: list[_Step] = []
        size_bytes = 0
        for operation in operations:
            size_bytes += len(bytes(operation.data)) + _STEP_BYTES
            if size_bytes > most_bytes:
                return None
            steps.append(_Step(operation, read_data(operation)))
            if len(steps) == _BLOCK:
                blocks.append(_folded(blocks[-1].after if blocks else None, steps))
                steps = []
        if steps:
            blocks.append(_folded(blocks[-1].after if blocks else None, steps))
        return cls(blocks, size_bytes)

    def state_with(self, operation: Operation, data: JsonValue) -> RecordState:
        """The state with one more operation; `data` is its data, read. Changes nothing, see `take`."""
        if self._tried is None or self._tried[0] is not operation:
            self._tried = (operation, *self._inserted(_Step(operation, data)))
        _, changed, first = self._tried
        is_last = first + len(changed) >= len(self._blocks)
        earliest = changed[0] if first == 0 else self._blocks[0]
        # The states of blocks that did not change may have another one.
        return replace((changed if is_last else self._blocks)[-1].after, created_at_ms=earliest.steps[0].place[0])

    def take(self, operation: Operation, data: JsonValue) -> None:
        """It is part of the history from now on."""
        self.state_with(operation, data)
        if self._tried is not None:
            _, changed, first = self._tried
            self._blocks[first : first + len(changed)] = changed
            self._split(first)
        self._tried = None

    def _inserted(self, step: _Step) -> tuple[list[_Block], int]:
        """The blocks that a step changes, as they are then, and the index of the first one."""
        if not self._blocks:
            return [_folded(None, [step])], 0
        first = min(bisect_right(self._blocks, step.place, key=_last_place_of), len(self._blocks) - 1)
        steps = list(self._blocks[first].steps)
        insort_right(steps, step, key=_place_of)
        changed = [_folded(self._blocks[first - 1].after if first else None, steps)]
        for index in range(first, len(self._blocks) - 1):
            if _is_same(changed[-1].after, self._blocks[index].after):
                break
            changed.append(_folded(changed[-1].after, self._blocks[index + 1].steps))
        return changed, first

    def _split(self, index: int) -> None:
        steps = self._blocks[index].steps
        if len(steps) >= 2 * _BLOCK:
            before = self._blocks[index - 1].after if index else None
            front = _folded(before, steps[:_BLOCK])
            self._blocks[index : index + 1] = [front, _Block(steps[_BLOCK:], self._blocks[index].after)]


def _folded(state: RecordState | None, steps: list[_Step]) -> _Block:
    for step in steps:
        state = advance(state, step.operation, step.data)
    if state is None:
        raise ValueError("found no operation, or none in order")
    return _Block(steps, state)


def _is_same(left: RecordState, right: RecordState) -> bool:
    """Whether two states are the same for all operations to come: values are the very same objects."""
    return (
        left.last == right.last
        and left.live == right.live
        and left.atomic_writers == right.atomic_writers
        and list(left.fields) == list(right.fields)
        and all(one is other for one, other in zip(left.fields.values(), right.fields.values(), strict=True))
    )
