"""Rows of the log as they go out: `model.operation.encode_operation` of a row, without an operation in between."""

from __future__ import annotations

import msgspec

from kora_daemon.model.delivery import DeliveryEntry
from kora_daemon.store.postgres.names import read_entry
from kora_daemon.store.tables import Row, texts

_encode = msgspec.json.encode


def read_delivery(row: Row) -> DeliveryEntry:
    """The log entry in a row of `tables.ENTRY_COLUMNS`, ready to be sent. Raises like `tables.entry_of`.

    Written out, which takes less time than an encoder: a first sync is made of little else.
    """
    (
        sequence,
        operation_id,
        node_id,
        kind,
        collection,
        record_id,
        wall_time,
        logical,
        timestamp_node_id,
        sequence_number,
        causal_deps,
        schema_version,
        data,
        previous_data,
        atomic_ops,
        transaction_id,
        mutation_name,
        stamp,
    ) = row
    names = f"{operation_id}{node_id}{kind}{collection}{record_id}{timestamp_node_id}"
    # Names that JSON has to escape are rare, and those that PostgreSQL can't hold as they are all have to be.
    if transaction_id is not None or mutation_name is not None or len(_encode(names)) != len(names) + 2:
        return DeliveryEntry.of(read_entry(row))
    texts(causal_deps)  # it goes out as it is
    body = (
        f'{{"id":"{operation_id}","nodeId":"{node_id}","type":"{kind}","collection":"{collection}"'
        f',"recordId":"{record_id}","timestamp":{{"wallTime":{wall_time},"logical":{logical}'
        f',"nodeId":"{timestamp_node_id}"}},"sequenceNumber":{sequence_number},"causalDeps":{causal_deps}'
        f',"schemaVersion":{schema_version},"data":{"null" if data is None else data}'
        f',"previousData":{"null" if previous_data is None else previous_data}'
    )
    body += "}" if atomic_ops is None else f',"atomicOps":{atomic_ops}}}'
    return DeliveryEntry(sequence, operation_id, node_id, collection, body.encode(), 0, stamp)
