"""The log of the memory store."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence

from msgspec import UnsetType
from msgspec.structs import asdict, replace

from kora_daemon.materialization.blobs import Mention, blob_keys
from kora_daemon.model.delivery import CausalKey, LogEntry
from kora_daemon.model.node import NodeMemory, NodeNews
from kora_daemon.model.operation import Operation
from kora_daemon.model.record import RecordKey


class MemoryLog:
    """Entries in delivery order. `floor` is where its watermarks begin, see the contract."""

    def __init__(self, vector: Mapping[str, int] | None = None, floor: int = 0) -> None:
        self.floor = floor
        self.entries: list[LogEntry] = []
        self.ids: set[str] = set()
        self.vector = dict(vector or {})
        self._sequences: list[int] = []
        self._authors: dict[str, list[tuple[int, int]]] = {}
        """Node id -> (sequence number, place in the log) of its operations, ascending."""
        self._histories: dict[RecordKey, list[int]] = {}
        """Record -> places of its operations in the log, ascending."""
        self.nodes: dict[str, NodeMemory] = {}
        self.blobs: dict[int, dict[Mention, None]] = {}
        """Key of a blob -> what the operations that refer to it are about."""

    def copy(self) -> MemoryLog:
        """The same, to be changed while this one is read."""
        made = MemoryLog(self.vector, self.floor)
        made.nodes = dict(self.nodes)
        made.extend(self.entries)
        return made

    def take(self, key: RecordKey) -> list[LogEntry]:
        """Take out all operations of a record, in delivery order."""
        taken = [self.entries[place] for place in self._histories.get(key, [])]
        kept = [one for one in self.entries if (one.operation.collection, one.operation.record_id) != key]
        self.entries, self._sequences, self._authors, self._histories = [], [], {}, {}
        self.ids.clear()
        self.extend(kept)
        return taken

    @property
    def frontier(self) -> int:
        """The largest delivery sequence, 0 for an empty log."""
        return self._sequences[-1] if self._sequences else 0

    def extend(self, entries: Iterable[LogEntry]) -> None:
        """Append entries, their delivery sequences ascending and above the frontier."""
        for entry in entries:
            operation, place = entry.operation, len(self.entries)
            self.entries.append(entry)
            self._sequences.append(entry.sequence)
            self.ids.add(operation.id)
            if operation.sequence_number > self.vector.get(operation.node_id, 0):
                self.vector[operation.node_id] = operation.sequence_number
            insort(self._authors.setdefault(operation.node_id, []), (operation.sequence_number, place))
            key = RecordKey(operation.collection, operation.record_id)
            self._histories.setdefault(key, []).append(place)
            for blob in blob_keys(operation):
                self.blobs.setdefault(blob, {})[Mention(key, operation.node_id)] = None

    def after(self, sequence: int, limit: int | None = None) -> list[LogEntry]:
        """At most `limit` entries with a delivery sequence above `sequence`, ascending."""
        first = bisect_right(self._sequences, sequence)
        return self.entries[first : None if limit is None else first + max(limit, 0)]

    def at(self, sequences: Sequence[int]) -> list[LogEntry]:
        """The entries with these delivery sequences, in the order given; unknown ones are left out."""
        places = ((bisect_left(self._sequences, sequence), sequence) for sequence in sequences)
        return [self.entries[p] for p, n in places if p < len(self.entries) and self._sequences[p] == n]

    def sequence_of(self, operation_id: str) -> int | None:
        """The delivery sequence of an operation, None for one that is not in the log; looks through it."""
        if operation_id not in self.ids:
            return None
        return next(entry.sequence for entry in self.entries if entry.operation.id == operation_id)

    def causal_keys_above(self, vector: Mapping[str, int]) -> list[CausalKey]:
        """Keys of all entries above `vector`, in delivery order."""
        found: list[int] = []
        for node_id, numbers in self._authors.items():
            first_new = bisect_left(numbers, (vector.get(node_id, -1) + 1,))
            found.extend(place for _, place in numbers[first_new:])
        return [_causal_key(self.entries[place]) for place in sorted(found)]

    def of_author(self, node_id: str, first: int, last: int) -> list[Operation]:
        """Operations of one author with sequence numbers from `first` to `last`, both included, ascending."""
        numbers = self._authors.get(node_id, [])
        found = numbers[bisect_left(numbers, (first,)) : bisect_left(numbers, (last + 1,))]
        return [self.entries[place].operation for _, place in found]

    def of_record(self, key: RecordKey) -> list[Operation]:
        """The operations of a record, in delivery order."""
        return [self.entries[place].operation for place in self._histories.get(key, [])]

    def record_ids(self, collection: str) -> Iterable[str]:
        """The ids of all records of a collection."""
        return (record_id for name, record_id in self._histories if name == collection)

    def count_history(self, collection: str, after: str | None) -> int:
        """How many operations the records of a collection have, of those with an id above `after`."""
        return sum(
            len(places)
            for (name, record_id), places in self._histories.items()
            if name == collection and (after is None or record_id > after)
        )

    def remember(self, news: NodeNews) -> None:
        """Keep this about a device."""
        known = self.nodes.get(news.node_id, NodeMemory())
        fresh = {name: value for name, value in asdict(news).items() if name != "node_id" and value is not None}
        self.nodes[news.node_id] = replace(known, **fresh)

    def complete_upto(self, node_id: str, known: int) -> int:
        """The sequence number of a node up to which none is missing."""
        for number, _ in self._authors.get(node_id, []):
            if number == known + 1:
                known = number
            elif number > known:
                break
        return known

    def restamp(self, key: RecordKey, stamp: str, *, only_missing: bool) -> None:
        """Give a stamp to the operations of a record: to all of them, or to those without."""
        for place in self._histories.get(key, []):
            entry = self.entries[place]
            if entry.stamp is None or not only_missing:
                self.entries[place] = replace(entry, stamp=stamp)


def detached(operation: Operation) -> Operation:
    """A copy that does not keep the frame alive from which the operation was decoded."""
    atomic_ops = operation.atomic_ops
    return replace(
        operation,
        data=operation.data.copy(),
        previous_data=operation.previous_data.copy(),
        atomic_ops=atomic_ops if isinstance(atomic_ops, UnsetType) else atomic_ops.copy(),
    )


def _causal_key(entry: LogEntry) -> CausalKey:
    operation = entry.operation
    return CausalKey(entry.sequence, operation.id, operation.causal_deps, operation.timestamp.order_key)
