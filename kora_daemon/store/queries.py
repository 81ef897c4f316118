"""The questions to the log, as SQLite takes them. Lists and maps go in as JSON text: one statement for any number."""

from __future__ import annotations

from collections.abc import Iterable

from kora_daemon.materialization.shape import RefillSource
from kora_daemon.store.tables import ENTRY_COLUMNS, JSON_COLUMNS, KEY_COLUMNS


def _select(columns: Iterable[str], source: str) -> str:
    return " ".join(("SELECT", ", ".join(columns), "FROM", source))


# Bytes need no decoding, and go out again as they are.
_ENTRY = [f"CAST({name} AS BLOB)" if name in JSON_COLUMNS else name for name in ENTRY_COLUMNS]
_BODY = """
    CAST(concat(
        '{"id":', json_quote(id), ',"nodeId":', json_quote(node_id), ',"type":', json_quote(type),
        ',"collection":', json_quote(collection), ',"recordId":', json_quote(record_id),
        ',"timestamp":{"wallTime":', wall_time, ',"logical":', logical, ',"nodeId":', json_quote(timestamp_node_id),
        '},"sequenceNumber":', sequence_number, ',"causalDeps":',
        iif(causal_deps GLOB '[[]"*"]' OR causal_deps = '[]', causal_deps, kora_checked_texts(causal_deps)),
        ',"schemaVersion":', schema_version,
        ',"data":', coalesce(data, 'null'), ',"previousData":', coalesce(previous_data, 'null'),
        ',"atomicOps":' || atomic_ops,
        iif(transaction_id IS NULL, NULL, ',"transactionId":' || json_quote(transaction_id)),
        iif(mutation_name IS NULL, NULL, ',"mutationName":' || json_quote(mutation_name)), '}'
    ) AS BLOB)
"""
"""`model.operation.encode_operation` of a row, made where it lies: reading a page takes less than half the time so.

Causes that are cut short, or no list of texts at all, are noticed, for 1 % of a first sync; to parse them all would
take 2 to 3 %.
"""
_DELIVERY = ("delivery_seq", "id", "node_id", "collection", _BODY, "0", "record_stamp")
"""The fields of `DeliveryEntry`, as far as the log knows them."""
_VECTOR = ("node_id", "max_sequence_number")

FRONTIER = "SELECT coalesce(max(delivery_seq), 0) FROM operations"
FLOOR = "SELECT coalesce((SELECT CAST(value AS INTEGER) FROM kora_meta WHERE key = 'floor'), 0)"
REACH = f"SELECT max(({FRONTIER}), ({FLOOR}))"
COUNT = "SELECT count(*) FROM operations"
KNOWN_IDS = "SELECT id FROM operations WHERE id IN (SELECT value FROM json_each(?))"
AUTHORS = _select(_VECTOR, "sync_state")
VECTOR = _select(_VECTOR, "sync_state WHERE max_sequence_number > 0")
VECTOR_OF = _select(_VECTOR, "sync_state WHERE max_sequence_number > 0 AND node_id IN (SELECT value FROM json_each(?))")
AUTHORS_AFTER = "SELECT DISTINCT +node_id FROM operations WHERE delivery_seq > ?"
"""The plus keeps SQLite from walking through the log by node id to spare itself the sorting."""
ENTRIES_AFTER = _select(_ENTRY, "operations WHERE delivery_seq > ? ORDER BY delivery_seq LIMIT ?")
DELIVERIES_AFTER = _select(_DELIVERY, "operations WHERE delivery_seq > ? ORDER BY delivery_seq LIMIT ?")


def deliveries_in(sequences: str) -> str:
    """The question for the entries with the delivery sequences that a statement finds, ascending."""
    return _select(_DELIVERY, f"operations WHERE delivery_seq IN ({sequences}) ORDER BY delivery_seq")


DELIVERIES_AT = deliveries_in("SELECT value FROM json_each(?)")
SEQUENCE_OF = "SELECT delivery_seq FROM operations WHERE id IN (SELECT value FROM json_each(?))"
CLAIMS = """
    SELECT node_id, claimed_by FROM kora_nodes
    WHERE claimed_by IS NOT NULL AND node_id IN (SELECT value FROM json_each(?))
"""
NODE_MEMORY = "SELECT claimed_by, scope, floor, settled, settled_upto, views FROM kora_nodes WHERE node_id = ?"
COMPLETE_UPTO = """
    SELECT coalesce(max(number), ?2) FROM (
        SELECT number, row_number() OVER (ORDER BY number) AS place
        FROM (SELECT DISTINCT sequence_number AS number FROM operations WHERE node_id = ?1 AND sequence_number > ?2)
    ) WHERE number - place = ?2
"""
"""Numbers ascend by one as long as none is missing."""
ADD_KEY = "INSERT OR IGNORE INTO kora_scopes (key, delivery_seq) VALUES (?, ?)"
REMOVE_KEY = "DELETE FROM kora_scopes WHERE key = ? AND delivery_seq = ?"
RENUMBER = "UPDATE operations SET delivery_seq = ? WHERE delivery_seq = ?"
RESTAMP = "UPDATE operations SET record_stamp = ? WHERE delivery_seq = ?"
INDEX_KNOWS_ALL = """
    SELECT coalesce((SELECT CAST(value AS INTEGER) FROM kora_meta WHERE key = 'materialized'), 0)
            >= (SELECT coalesce(max(delivery_seq), 0) FROM operations)
        AND NOT EXISTS (SELECT 1 FROM kora_collections WHERE refill IS NOT NULL)
"""
RECORDS_AT = "SELECT DISTINCT collection, record_id, node_id FROM operations WHERE delivery_seq IN ({sequences})"
AUTHORS_AT = """
    SELECT DISTINCT node_id FROM operations WHERE delivery_seq IN ({sequences})
"""
ENTRIES_OF = _select(
    _ENTRY, "operations WHERE node_id = ? AND sequence_number BETWEEN ? AND ? ORDER BY sequence_number, delivery_seq"
)
KEYS_ABOVE = _select(
    [f"operations.{name}" for name in KEY_COLUMNS],
    # CROSS JOIN keeps the order: a search for each author instead of a walk through the log.
    """json_each(?) AS author CROSS JOIN operations
    ON node_id = author.value ->> 0 AND sequence_number > author.value ->> 1
    ORDER BY delivery_seq""",
)
"""Takes a list of [node id, sequence number]."""
COUNT_PROBE = """
    INSERT INTO kora_meta (key, value) VALUES ('probe', '1')
    ON CONFLICT (key) DO UPDATE SET value = CAST(kora_meta.value AS INTEGER) + 1
"""
"""SQLite writes nothing when nothing changes; a count always does."""
POSITION = """
    SELECT
        (SELECT coalesce(max(delivery_seq), 0) FROM operations),
        coalesce((SELECT CAST(value AS INTEGER) FROM kora_meta WHERE key = 'floor'), 0),
        coalesce((SELECT CAST(value AS INTEGER) FROM kora_meta WHERE key = 'given'), 0),
        coalesce((SELECT CAST(value AS INTEGER) FROM kora_meta WHERE key = 'materialized'), 0),
        coalesce((SELECT CAST(value AS INTEGER) FROM kora_meta WHERE key = 'shapes'), 0)
"""
"""Frontier, floor, the last sequence that may have been given, up to where records are saved, generation of shapes."""
SEQUENCE_NUMBER = "SELECT max_sequence_number FROM sync_state WHERE node_id = ?"
STALE_RECORDS = """
    SELECT DISTINCT +collection, +record_id FROM operations
    WHERE delivery_seq > ? AND +collection IN (SELECT value FROM json_each(?))
"""
"""The pluses as in `AUTHORS_AFTER`."""
STATES = """
    SELECT collection, record_id, state FROM json_each(?) AS wanted CROSS JOIN kora_records
    ON collection = wanted.value ->> 0 AND record_id = wanted.value ->> 1
"""
"""Takes a list of [collection, record id]."""
HISTORY = _select(
    _ENTRY,
    """operations WHERE collection = ? AND record_id = ?
    ORDER BY wall_time, logical, timestamp_node_id, delivery_seq""",
)
RECORD_IDS: dict[RefillSource, str] = {
    "log": """
        SELECT DISTINCT record_id FROM operations WHERE collection = ? AND {bounds} ORDER BY record_id LIMIT ?
    """,
    "states": "SELECT record_id FROM kora_records WHERE collection = ? AND {bounds} ORDER BY record_id LIMIT ?",
}
COUNT_HISTORY = "SELECT count(*) FROM operations WHERE collection = ? AND {bounds}"
LISTED = "SELECT value FROM json_each(?)"
FORGET_RECORDS = """
    DELETE FROM kora_records WHERE collection = ? AND {bounds} AND record_id NOT IN (SELECT value FROM json_each(?))
"""
FORGET_SHAPE = "DELETE FROM kora_collections WHERE name = ?"
FORGET_STATES = "DELETE FROM kora_records WHERE collection = ?"
EMPTY = "DELETE FROM {table}"
REPLAY = _select(_ENTRY, "operations WHERE collection = ? ORDER BY wall_time, logical, sequence_number, delivery_seq")
ALL_ENTRIES = _select(_ENTRY, "operations ORDER BY delivery_seq")
TABLES = "SELECT name, sql FROM sqlite_schema WHERE type = 'table'"
COLUMNS_OF = "SELECT name, type FROM pragma_table_info(?)"
INDEXES_OF = "SELECT name FROM pragma_index_list(?) WHERE origin = 'c' ORDER BY name"
INDEX_COLUMNS = "SELECT name FROM pragma_index_info(?)"
