"""One write transaction as the judgement sees it: records as the operations accepted so far leave them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import merge

from msgspec import Raw, UnsetType
from msgspec.structs import replace

from kora_daemon.apply.late import MOST_BYTES, History
from kora_daemon.apply.refill import catch_up
from kora_daemon.materialization.columns import Dialect
from kora_daemon.materialization.conditions import Condition
from kora_daemon.materialization.fold import RecordState, advance, clock_order, fold_sorted, read_data
from kora_daemon.materialization.json_text import write_json
from kora_daemon.materialization.shape import Shape
from kora_daemon.materialization.stamp import EMPTY_STAMP, stamp_of, stamp_of_any
from kora_daemon.model.delivery import LogEntry
from kora_daemon.model.jsvalue import JsonValue
from kora_daemon.model.node import NodeNews
from kora_daemon.model.operation import Operation
from kora_daemon.model.record import RecordKey
from kora_daemon.model.schema import Kind
from kora_daemon.store.contract import WriteTransaction


class Work:
    """Collects accepted operations and what they make of their records; `finish` writes what is still outstanding.

    Whoever asks about other records makes it write first, so that answers include everything accepted before.
    """

    def __init__(self, tx: WriteTransaction, received_at_ms: int, *, moves_history: bool = False) -> None:
        self.received_at_ms = received_at_ms
        self._moves_history = moves_history
        self._tx = tx
        self._shapes = tx.shapes
        self._states: dict[RecordKey, RecordState] = {}
        self._loaded: set[RecordKey] = set()
        self._changed: set[RecordKey] = set()
        self._pending: list[Operation] = []
        self._stamps: list[str | None] = []
        self._written: list[LogEntry] = []
        self._sequence_numbers: dict[str, int] = {}
        self._moved: dict[RecordKey, None] = {}
        self._histories: dict[RecordKey, History] = {}
        """Of records for which something has come late."""
        self._sizes: dict[RecordKey, int] = {}
        """Bytes that the fields of a record have as JSON, at most."""
        self.has_moved = False
        """Whether operations of earlier writes are seen by others than before: records have changed hands."""
        catch_up(tx)

    @property
    def dialect(self) -> Dialect:
        """Whose columns records are compared in."""
        return self._tx.dialect

    @property
    def accepted(self) -> int:
        """How many operations have been accepted; the place of the next one in what `finish` returns."""
        return len(self._written) + len(self._pending)

    def kinds(self, collection: str) -> Mapping[str, Kind] | None:
        """The fields of the collection's records, None when it has no table."""
        shape = self._shapes.get(collection)
        return None if shape is None else shape.kinds

    def claims(self, node_ids: Iterable[str]) -> dict[str, str]:
        """Node id -> who has claimed it."""
        return self._tx.claims(node_ids)

    def remember(self, news: NodeNews) -> None:
        """Keep this about a device."""
        self._tx.remember(news, self.received_at_ms)

    def has_table(self, collection: str) -> bool:
        """Whether the collection has records."""
        return collection in self._shapes

    def load(self, keys: Iterable[RecordKey]) -> None:
        """Read the states of these records now, in one go."""
        wanted = {key for key in keys if key.collection in self._shapes} - self._loaded
        if wanted:
            self._states |= self._tx.states(wanted)
            self._loaded |= wanted

    def state(self, key: RecordKey) -> RecordState | None:
        """The state of a record, None for one without operations or in a collection without a table."""
        if key not in self._loaded:
            self.load([key])
        return self._states.get(key)

    def current(self, key: RecordKey) -> RecordState | None:
        """The state of a record, also in a collection without a table: then worked out from its operations."""
        if key.collection in self._shapes:
            return self.state(key)
        self._write()
        history = list(self._tx.history(key))
        return fold_sorted(history) if history else None

    def result(self, before: RecordState | None, operation: Operation, data: JsonValue) -> RecordState:
        """What an operation would make of its record, whose state is `before`; `data` is its data, read."""
        state = advance(before, operation, data)
        return self._late(operation, data) if state is None else state

    def _late(self, operation: Operation, data: JsonValue) -> RecordState:
        key = RecordKey(operation.collection, operation.record_id)
        history = self._histories.get(key)
        if history is None:
            self._write()
            room_bytes = MOST_BYTES - sum(one.size_bytes for one in self._histories.values())
            if key.collection in self._shapes:
                history = History.of(self._tx.history(key), room_bytes)
            if history is None:
                return fold_sorted(merge(self._tx.history(key), [operation], key=clock_order))
            self._histories[key] = history
        return history.state_with(operation, data)

    def outgrows(self, operation: Operation, data: JsonValue, most_bytes: int) -> bool:
        """Whether an update, which is to be accepted unless it does, makes a record larger than that.

        One that is larger already may stay as large. `data` is the data of the operation, read.
        """
        key = RecordKey(operation.collection, operation.record_id)
        state = self.state(key)
        size = self._sizes.get(key)
        if size is None:
            size = _size_of(state)
        largest = size + _size_of_change(operation)
        if largest > most_bytes:
            largest = _size_of(self.result(state, operation, data))
            if largest > max(most_bytes, _size_of(state)):
                return True
        self._sizes[key] = largest
        return False

    def live_ids(self, collection: str, where: Sequence[Condition], limit: int | None = None) -> list[str]:
        """The ids of at most `limit` live records that meet all conditions, ascending."""
        if collection not in self._shapes:
            return []
        self._write()
        return self._tx.live_ids(collection, where, limit)

    def next_sequence_number(self, node_id: str) -> int:
        """The sequence number for the next operation of a node."""
        number = self.sequence_number(node_id) + 1
        self._sequence_numbers[node_id] = number
        return number

    def sequence_number(self, node_id: str) -> int:
        """The largest sequence number known of a node."""
        known = self._sequence_numbers.get(node_id)
        if known is None:
            pending = [one.sequence_number for one in self._pending if one.node_id == node_id]
            known = max([self._tx.sequence_number_of(node_id), *pending])
        return known

    def accept(self, operation: Operation, data: JsonValue) -> None:
        """Put an operation into the log and onto its record; `data` is its data, read."""
        shape = self._shapes.get(operation.collection)
        if shape is None:
            self._pending.append(operation)
            self._stamps.append(None)
            return
        key = RecordKey(operation.collection, operation.record_id)
        before = self.state(key)
        state = self.result(before, operation, data)
        if before is not None and shape.scoped and _moved(shape, before, state):
            self._moved[key] = None
        self._states[key] = state
        self._changed.add(key)
        if key in self._histories:
            self._histories[key].take(operation, data)
        if operation.type != "update":
            self._sizes.pop(key, None)
        self._pending.append(operation)
        carried = data if isinstance(data, dict) else {}
        whole = operation.type == "insert" and state.fields is data
        self._stamps.append(EMPTY_STAMP if whole else stamp_of(shape, state, carried))

    def finish(self) -> list[LogEntry]:
        """Write what is outstanding; everything that was accepted, in order."""
        self._write()
        return self._written

    def _write(self) -> None:
        if self._pending:
            sequences = self._tx.append(self._pending, self.received_at_ms, self._stamps)
            self._written += map(LogEntry, sequences, self._pending, self._stamps)
            if self._shapes:
                self._tx.save({key: self._states[key] for key in self._changed})
            self._pending, self._stamps, self._changed = [], [], set()
            self._restamp()

    def _restamp(self) -> None:
        """Let all operations of records that have moved between scopes say what these are now."""
        if not self._moved:
            return
        moved: dict[RecordKey, tuple[str, dict[str, int]]] = {}
        for key in self._moved:
            shape = self._shapes[key.collection]
            stamp = stamp_of_any(shape, self._states[key], shape.kinds)
            self._tx.restamp(key, stamp, only_missing=False)
            # Whoever sees the record now has to get all of it.
            requeued = self._tx.requeue(key) if self._moves_history else ()
            moved[key] = stamp, {one.operation.id: one.sequence for one in requeued}
        self._written = [_restamped(one, moved) for one in self._written]
        self.has_moved = True
        self._moved = {}


def _restamped(entry: LogEntry, moved: Mapping[RecordKey, tuple[str, dict[str, int]]]) -> LogEntry:
    """An entry of this write as it stands now that records have moved: stamp of the record, and perhaps sequence."""
    found = moved.get(RecordKey(entry.operation.collection, entry.operation.record_id))
    if found is None:
        return entry
    stamp, sequences = found
    return replace(entry, stamp=stamp, sequence=sequences.get(entry.operation.id, entry.sequence))


def _moved(shape: Shape, before: RecordState, after: RecordState) -> bool:
    """Whether a field that scopes are decided by has another value."""
    for name in shape.scoped:
        old, new = before.fields.get(name), after.fields.get(name)
        if old is not new and (type(old) is not type(new) or old != new):
            return True
    return False


def _size_of(state: RecordState | None) -> int:
    return 0 if state is None else len(write_json(state.fields))


def _size_of_change(operation: Operation) -> int:
    atomic_ops = operation.atomic_ops
    return len(bytes(operation.data)) + (0 if isinstance(atomic_ops, UnsetType) else len(bytes(atomic_ops)))


def data_of(operation: Operation) -> JsonValue:
    """An operation's data, None where there is none or it can't be read."""
    return None if operation.data == _NULL else read_data(operation)


_NULL = Raw(b"null")
