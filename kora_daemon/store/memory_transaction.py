"""One atomic write to the memory store: changes beside the log and the records, part of them only at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from msgspec.structs import replace

from kora_daemon.errors import StoreError
from kora_daemon.materialization.columns import Dialect
from kora_daemon.materialization.conditions import Condition
from kora_daemon.materialization.fold import RecordState, clock_order, fold
from kora_daemon.materialization.shape import Refill, RefillSource, Shape
from kora_daemon.model.delivery import LogEntry
from kora_daemon.model.node import NodeMemory, NodeNews
from kora_daemon.model.operation import Operation
from kora_daemon.model.record import RecordKey
from kora_daemon.store.memory_log import MemoryLog, detached
from kora_daemon.store.memory_records import MemoryRecords


class MemoryTransaction:
    """One atomic write to a `MemoryStore`; see the contract. `log` and `records` are what it leaves behind."""

    dialect = Dialect.SQLITE

    def __init__(self, log: MemoryLog, records: MemoryRecords) -> None:
        self.log = log
        self.records = records
        self.staged: list[LogEntry] = []
        self.staged_states: dict[RecordKey, RecordState] = {}
        self.materialized = records.materialized
        self.late: list[Callable[[MemoryLog], None]] = []
        """What can't be staged and is done at the very end."""
        self._staged_ids: set[str] = set()
        self._news: list[NodeNews] = []
        self._copied = False
        self._next = max(log.frontier, log.floor) + 1

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """The collections that have a table, and what their rows are made of."""
        return self.records.shapes

    def known_ids(self, ids: Iterable[str]) -> set[str]:
        """Which of these operation ids are in the log already."""
        return {one for one in ids if one in self.log.ids or one in self._staged_ids}

    def sequence_number_of(self, node_id: str) -> int:
        """The largest sequence number seen from a node, 0 for none."""
        staged = (one.operation.sequence_number for one in self.staged if one.operation.node_id == node_id)
        return max(self.log.vector.get(node_id, 0), max(staged, default=0))

    def append(
        self, operations: Sequence[Operation], received_at_ms: int, stamps: Sequence[str | None] | None = None
    ) -> list[int]:
        """Append operations with new ids; return their delivery sequences. Raises StoreError for a known id."""
        appended: list[int] = []
        for operation, stamp in zip(operations, stamps or [None] * len(operations), strict=True):
            if self.known_ids([operation.id]):
                raise StoreError(f"The operation {operation.id} is in the log already")
            self._staged_ids.add(operation.id)
            self.staged.append(LogEntry(self._next, detached(operation), stamp))
            appended.append(self._next)
            self._next += 1
        return appended

    def claims(self, node_ids: Iterable[str]) -> dict[str, str]:
        """Node id -> who has claimed it, of those of these that are claimed."""
        fresh = {news.node_id: news.claimed_by for news in self._news if news.claimed_by is not None}
        claims = {one: fresh.get(one, self.log.nodes.get(one, NodeMemory()).claimed_by) for one in node_ids}
        return {one: claim for one, claim in claims.items() if claim is not None}

    def remember(self, news: NodeNews, now_ms: int) -> None:
        """Keep this about a device."""
        del now_ms
        self._news.append(news)
        self.late.append(lambda log: log.remember(news))

    # Records

    def stale_records(self) -> list[RecordKey]:
        """Records with operations that were appended by somebody who did not save their states."""
        if not self.shapes:
            return []
        entries = [*self.log.after(self.materialized), *self.staged]
        keys = [RecordKey(entry.operation.collection, entry.operation.record_id) for entry in entries]
        return list(dict.fromkeys(key for key in keys if key.collection in self.shapes))

    def states(self, keys: Iterable[RecordKey]) -> dict[RecordKey, RecordState]:
        """The states of these records; one without operations is left out."""
        found = {}
        for key in keys:
            state = self.staged_states.get(key) or self.records.state(key)
            if not self._has_state(key):
                history = list(self.history(key))
                state = fold(history) if history else None
            if state is not None:
                found[key] = state
        return found

    def _has_state(self, key: RecordKey) -> bool:
        refill = self.records.refills.get(key.collection)
        return refill is None or refill.covers(key.record_id)

    def history(self, key: RecordKey) -> Iterator[Operation]:
        """The operations of a record in clock order, those with equal timestamps in delivery order."""
        staged = (one.operation for one in self.staged)
        mine = [one for one in staged if (one.collection, one.record_id) == key]
        return iter(sorted([*self.log.of_record(key), *mine], key=clock_order))

    def save(self, states: Mapping[RecordKey, RecordState]) -> None:
        """Save states. Now no record is stale any more."""
        self.staged_states |= states
        self.materialized = self.staged[-1].sequence if self.staged else self.log.frontier

    def live_ids(self, collection: str, where: Sequence[Condition], limit: int | None = None) -> list[str]:
        """The ids of at most `limit` live records that meet all conditions, ascending by code point."""
        found = self.records.live_ids(collection, where)
        for key, state in self.staged_states.items():
            if key.collection == collection:
                found.discard(key.record_id)
                if self.records.meets(key, state, where):
                    found.add(key.record_id)
        return sorted(found)[:limit]

    # Making rows again

    def set_shapes(self, shapes: Mapping[str, Shape], refills: Mapping[str, Refill]) -> None:
        """Remember what the rows of these collections, and no others, are made of, and which are still to be made."""
        records = self._own_records()
        first = not records.shapes
        for name in records.shapes.keys() - shapes.keys():
            records.forget(name)
        records.shapes, records.refills = dict(shapes), dict(refills)
        if first:
            # What is in the log so far is the refills' business.
            self.save({})

    def refills(self) -> dict[str, Refill]:
        """The collections with rows that are still to be made."""
        return dict(self.records.refills)

    def record_ids(self, collection: str, after: str | None, limit: int, source: RefillSource) -> list[str]:
        """At most `limit` ids of records above `after`, ascending, that the log or the states know."""
        if source == "log":
            ids = {*self.log.record_ids(collection), *(one.operation.record_id for one in self._staged_of(collection))}
        else:
            staged = (key.record_id for key in self.staged_states if key.collection == collection)
            ids = {*self.records.ids(collection), *staged}
        return sorted(one for one in ids if after is None or one > after)[:limit]

    def _staged_of(self, collection: str) -> Iterator[LogEntry]:
        return (one for one in self.staged if one.operation.collection == collection)

    def replace_records(
        self, collection: str, after: str | None, upto: str | None, states: Mapping[RecordKey, RecordState]
    ) -> None:
        """Make these the only records with an id above `after`, and up to `upto` unless that is None."""
        records = self._own_records()
        for record_id in list(records.ids(collection)):
            inside = (after is None or record_id > after) and (upto is None or record_id <= upto)
            if inside and RecordKey(collection, record_id) not in states:
                records.remove(RecordKey(collection, record_id))
        records.save(states)

    def restamp(self, key: RecordKey, stamp: str, *, only_missing: bool) -> None:
        """Give a stamp to the stored operations of a record: to all of them, or to those without."""
        self.late.append(lambda log: log.restamp(key, stamp, only_missing=only_missing))
        self.staged = [
            replace(one, stamp=stamp)
            if (one.operation.collection, one.operation.record_id) == key and (one.stamp is None or not only_missing)
            else one
            for one in self.staged
        ]

    def requeue(self, key: RecordKey) -> list[LogEntry]:
        """Move the operations of a record to the end of the log, in their order."""
        self.log = self.log.copy()
        for change in self.late:
            change(self.log)  # stamps, which are part of what is moved
        self.late = []
        mine = [one for one in self.staged if (one.operation.collection, one.operation.record_id) == key]
        found = [*self.log.take(key), *mine]
        moved = [replace(one, sequence=number) for number, one in enumerate(found, start=self._next)]
        self.staged = [one for one in self.staged if one not in mine] + moved
        self._next += len(moved)
        self.materialized = self._next - 1
        return moved

    def set_refill(self, collection: str, refill: Refill | None) -> None:
        """Remember how far the rows of a collection are made again; None: all of them are."""
        refills = self._own_records().refills
        refills.pop(collection, None)
        if refill is not None:
            refills[collection] = refill

    def replace_log(self, vector: Mapping[str, int]) -> None:
        """Empty the log, and all records with it; the version vector becomes `vector`."""
        records = self._own_records()
        for name in records.shapes:
            records.forget(name)
        nodes = self.log.nodes
        self.log = MemoryLog(vector, floor=max(self.log.floor + 1, self._next))
        self.log.nodes = dict(nodes)
        self.staged, self.staged_states, self._staged_ids = [], {}, set()
        self._next, self.materialized = 1, 0

    def _own_records(self) -> MemoryRecords:
        """The records, to be changed at once: a copy, so that nothing is seen of it before the end."""
        if not self._copied:
            self._copied = True
            self.records = self.records.copy()
        self.records.save(self.staged_states)
        self.staged_states = {}
        return self.records
