"""Records without a schema: what a plain replay of the log makes of a collection (store.md section 4)."""

from __future__ import annotations

from collections.abc import Iterable

from kora_daemon.materialization.fold import read_data
from kora_daemon.model.operation import Operation
from kora_daemon.model.record import Record


def replayed_records(operations: Iterable[Operation]) -> list[Record]:
    """The live records, by id, of operations in the order (wall time, logical, sequence number).

    Last write wins per field, atomic intents do not compose; a record is its id and what was written, nothing more.
    """
    records: dict[str, Record] = {}
    for operation in operations:
        if operation.type == "delete":
            records.pop(operation.record_id, None)
            continue
        data = read_data(operation)
        if isinstance(data, dict):
            before = records.get(operation.record_id, {}) if operation.type == "update" else {}
            records[operation.record_id] = {**before, **data, "id": operation.record_id}
    return [{"id": record_id, **records[record_id]} for record_id in sorted(records)]
