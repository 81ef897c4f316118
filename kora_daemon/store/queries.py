"""The questions to the log, as SQLite takes them. Lists and maps go in as JSON text: one statement for any number."""

from __future__ import annotations

from collections.abc import Iterable

from kora_daemon.store.tables import ENTRY_COLUMNS, JSON_COLUMNS, KEY_COLUMNS


def _select(columns: Iterable[str], source: str) -> str:
    return " ".join(("SELECT", ", ".join(columns), "FROM", source))


# Bytes need no decoding, and go out again as they are.
_ENTRY = [f"CAST({name} AS BLOB)" if name in JSON_COLUMNS else name for name in ENTRY_COLUMNS]
_VECTOR = ("node_id", "max_sequence_number")

FRONTIER = "SELECT coalesce(max(delivery_seq), 0) FROM operations"
COUNT = "SELECT count(*) FROM operations"
KNOWN_IDS = "SELECT id FROM operations WHERE id IN (SELECT value FROM json_each(?))"
AUTHORS = _select(_VECTOR, "sync_state")
VECTOR = _select(_VECTOR, "sync_state WHERE max_sequence_number > 0")
VECTOR_OF = _select(_VECTOR, "sync_state WHERE max_sequence_number > 0 AND node_id IN (SELECT value FROM json_each(?))")
AUTHORS_AFTER = "SELECT DISTINCT +node_id FROM operations WHERE delivery_seq > ?"
"""The plus keeps SQLite from walking through the log by node id to spare itself the sorting."""
ENTRIES_AFTER = _select(_ENTRY, "operations WHERE delivery_seq > ? ORDER BY delivery_seq LIMIT ?")
ENTRIES_AT = _select(_ENTRY, "operations WHERE delivery_seq IN (SELECT value FROM json_each(?))")
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
