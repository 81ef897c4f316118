"""The log tables that SQL stores share with the reference server: names, columns, rows (store.md section 3).

Knows no driver. Parameters are written `?`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw, UnsetType

from kora_daemon.model.delivery import CausalKey, LogEntry
from kora_daemon.model.node import NodeMemory, NodeNews
from kora_daemon.model.operation import NULL, Operation, Timestamp

FORMAT_VERSION = 1
"""Of the tables as this server writes them; a reader refuses a larger one."""

Row = tuple[Any, ...]


class Column(NamedTuple):
    """A column. `constraint` is what follows name and type in its declaration."""

    name: str
    type: str
    constraint: str = ""

    @property
    def declaration(self) -> str:
        """As it stands in CREATE TABLE and ADD COLUMN."""
        return " ".join(part for part in self if part)

    @property
    def can_be_added(self) -> bool:
        """Whether a table that has rows already can be given this column."""
        return not self.constraint or "DEFAULT" in self.constraint


class Table(NamedTuple):
    """A table with its indexes: index name -> columns. A `primary_key` of several columns is declared here."""

    name: str
    columns: Sequence[Column]
    indexes: Mapping[str, Sequence[str]] = {}
    primary_key: Sequence[str] = ()
    is_index: bool = False
    """Whether the primary key is all there is, for databases that can save the table behind it."""

    @property
    def creation(self) -> str:
        """The statement that makes the table where it is missing."""
        declared = [column.declaration for column in self.columns]
        if self.primary_key:
            declared.append(f"PRIMARY KEY ({', '.join(self.primary_key)})")
        return f"CREATE TABLE IF NOT EXISTS {self.name} ({', '.join(declared)})"

    @property
    def index_creations(self) -> list[str]:
        """The statements that make the indexes that are missing."""
        return [
            f"CREATE INDEX IF NOT EXISTS {index} ON {self.name} ({', '.join(columns)})"
            for index, columns in self.indexes.items()
        ]

    @property
    def insertion(self) -> str:
        """The statement that inserts a row of all columns."""
        columns = ", ".join(column.name for column in self.columns)
        values = ", ".join("?" for _ in self.columns)
        return " ".join(("INSERT INTO", self.name, f"({columns}) VALUES ({values})"))

    def addition(self, column: Column) -> str:
        """The statement that adds a column."""
        return f"ALTER TABLE {self.name} ADD COLUMN {column.declaration}"

    def missing_columns(self, present: Iterable[str]) -> list[Column]:
        """The columns that a table with the columns `present` lacks."""
        names = set(present)
        return [column for column in self.columns if column.name not in names]


OPERATIONS = Table(
    "operations",
    (
        Column("id", "TEXT", "PRIMARY KEY"),
        Column("node_id", "TEXT", "NOT NULL"),
        Column("type", "TEXT", "NOT NULL"),
        Column("collection", "TEXT", "NOT NULL"),
        Column("record_id", "TEXT", "NOT NULL"),
        Column("data", "TEXT"),
        Column("previous_data", "TEXT"),
        Column("atomic_ops", "TEXT"),
        Column("wall_time", "INTEGER", "NOT NULL"),
        Column("logical", "INTEGER", "NOT NULL"),
        Column("timestamp_node_id", "TEXT", "NOT NULL"),
        Column("sequence_number", "INTEGER", "NOT NULL"),
        Column("causal_deps", "TEXT", "NOT NULL DEFAULT '[]'"),
        Column("schema_version", "INTEGER", "NOT NULL"),
        Column("received_at", "INTEGER", "NOT NULL"),
        Column("delivery_seq", "INTEGER"),
        # Ours: the reference's tables lose these two.
        Column("transaction_id", "TEXT"),
        Column("mutation_name", "TEXT"),
        # Ours: the record when the operation was stored, see `materialization.stamp`.
        Column("record_stamp", "TEXT"),
    ),
    {
        "idx_node_seq": ("node_id", "sequence_number"),
        "idx_collection": ("collection",),
        "idx_received": ("received_at",),
        "idx_delivery_seq": ("delivery_seq",),
        "idx_collection_record": ("collection", "record_id"),
        # Ours: a whole collection in delivery order.
        "kora_collection_order": ("collection", "delivery_seq"),
    },
)
SYNC_STATE = Table(
    "sync_state",
    (
        Column("node_id", "TEXT", "PRIMARY KEY"),
        Column("max_sequence_number", "INTEGER", "NOT NULL"),
        Column("last_seen_at", "INTEGER", "NOT NULL"),
    ),
)
META = Table("kora_meta", (Column("key", "TEXT", "PRIMARY KEY"), Column("value", "TEXT")))
"""What only this server keeps.

`format`, `node_id`; `probe`, a number that each probe raises; `materialized`, the delivery sequence up to which the
states of all records with a table are saved; `floor`, see `Store.floor`; `shapes`, a number that changes with the
shapes and refills; `given` and `unsynced_boot`, see `sqlite.unsynced`.
"""
RECORDS = Table(
    "kora_records",
    (
        Column("collection", "TEXT", "NOT NULL"),
        Column("record_id", "TEXT", "NOT NULL"),
        Column("state", "TEXT", "NOT NULL"),
    ),
    primary_key=("collection", "record_id"),
)
"""The states of all records that have a table, as `materialization.fold.state_text` writes them."""
COLLECTIONS = Table(
    "kora_collections",
    (Column("name", "TEXT", "PRIMARY KEY"), Column("shape", "TEXT", "NOT NULL"), Column("refill", "TEXT")),
)
"""The collections that have a table: `materialization.shape.Shape` and, unless all rows are made, `Refill`, as JSON."""

SCOPES = Table(
    "kora_scopes",
    (Column("key", "INTEGER", "NOT NULL"), Column("delivery_seq", "INTEGER", "NOT NULL")),
    primary_key=("key", "delivery_seq"),
    is_index=True,
)
"""The scope index: the keys of `materialization.scope_keys`, and the operations that stand under them."""
NODES = Table(
    "kora_nodes",
    (
        Column("node_id", "TEXT", "PRIMARY KEY"),
        Column("claimed_by", "TEXT"),
        Column("scope", "TEXT"),
        Column("floor", "INTEGER"),
        Column("settled", "TEXT"),
        Column("settled_upto", "INTEGER"),
        Column("views", "TEXT"),
        Column("changed_at", "INTEGER", "NOT NULL"),
    ),
)
"""What is remembered of devices, see `model.node.NodeMemory`; `changed_at` is ms since the epoch."""

TABLES = (OPERATIONS, SYNC_STATE, META, RECORDS, COLLECTIONS, SCOPES, NODES)

INSERT_OPERATION = OPERATIONS.insertion
"""Takes what `operation_row` makes."""
RAISE_VECTOR = """
    INSERT INTO sync_state (node_id, max_sequence_number, last_seen_at) VALUES (?, ?, ?)
    ON CONFLICT (node_id) DO UPDATE SET
        max_sequence_number = max(sync_state.max_sequence_number, excluded.max_sequence_number),
        last_seen_at = excluded.last_seen_at
"""
REMEMBER = """
    INSERT INTO kora_nodes (node_id, claimed_by, scope, floor, settled, settled_upto, views, changed_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (node_id) DO UPDATE SET
        claimed_by = coalesce(excluded.claimed_by, kora_nodes.claimed_by),
        scope = coalesce(excluded.scope, kora_nodes.scope),
        floor = coalesce(excluded.floor, kora_nodes.floor),
        settled = coalesce(excluded.settled, kora_nodes.settled),
        settled_upto = coalesce(excluded.settled_upto, kora_nodes.settled_upto),
        views = coalesce(excluded.views, kora_nodes.views),
        changed_at = excluded.changed_at
"""
NUMBER_OLD_ROWS = """
    UPDATE operations SET delivery_seq = numbered.delivery_seq
    FROM (
        SELECT id, (SELECT coalesce(max(delivery_seq), 0) FROM operations)
            + row_number() OVER (ORDER BY received_at, sequence_number, id) AS delivery_seq
        FROM operations WHERE delivery_seq IS NULL
    ) AS numbered
    WHERE operations.id = numbered.id
"""
"""Gives delivery sequences to rows from before the column."""

JSON_COLUMNS = ("data", "previous_data", "atomic_ops")
ENTRY_COLUMNS = (
    "delivery_seq",
    "id",
    "node_id",
    "type",
    "collection",
    "record_id",
    "wall_time",
    "logical",
    "timestamp_node_id",
    "sequence_number",
    "causal_deps",
    "schema_version",
    *JSON_COLUMNS,
    "transaction_id",
    "mutation_name",
    "record_stamp",
)
"""What `entry_of` takes, in this order; the JSON columns as text or as its bytes."""
KEY_COLUMNS = ("delivery_seq", "id", "causal_deps", "wall_time", "logical", "timestamp_node_id")
"""What `causal_key_of` takes, in this order."""

_decode_texts = msgspec.json.Decoder(list[str]).decode


def operation_row(operation: Operation, received_at_ms: int, sequence: int, stamp: str | None = None) -> Row:
    """The log row of an operation, in the order of the columns of `OPERATIONS`."""
    timestamp = operation.timestamp
    causes = operation.causal_deps
    return (
        operation.id,
        operation.node_id,
        operation.type,
        operation.collection,
        operation.record_id,
        _json_text(operation.data),
        _json_text(operation.previous_data),
        None if isinstance(operation.atomic_ops, UnsetType) else _json_text(operation.atomic_ops, empty="{}"),
        timestamp.wall_time,
        timestamp.logical,
        timestamp.node_id,
        operation.sequence_number,
        msgspec.json.encode(causes).decode() if causes else "[]",
        operation.schema_version,
        received_at_ms,
        sequence,
        None if isinstance(operation.transaction_id, UnsetType) else operation.transaction_id,
        None if isinstance(operation.mutation_name, UnsetType) else operation.mutation_name,
        stamp,
    )


def memory_row(news: NodeNews, now_ms: int) -> Row:
    """The row for `REMEMBER`."""
    return (
        news.node_id,
        news.claimed_by,
        news.scope,
        news.floor,
        news.settled,
        news.settled_upto,
        news.views,
        now_ms,
    )


def memory_of(row: Row) -> NodeMemory:
    """What is remembered in the columns `claimed_by, scope, floor, settled, settled_upto, views`."""
    claimed_by, scope, floor, settled, settled_upto, views = row
    return NodeMemory(claimed_by, scope, floor or 0, settled, settled_upto or 0, views)


def vector_rows(operations: Iterable[Operation], received_at_ms: int) -> list[Row]:
    """The rows for `RAISE_VECTOR`: one for each author, with the largest of its sequence numbers."""
    largest: dict[str, int] = {}
    for operation in operations:
        if operation.sequence_number >= largest.get(operation.node_id, 0):
            largest[operation.node_id] = operation.sequence_number
    return [(node_id, number, received_at_ms) for node_id, number in largest.items()]


def entry_of(row: Row) -> LogEntry:
    """The log entry in a row of `ENTRY_COLUMNS`. Raises ValueError or msgspec.DecodeError for a damaged row."""
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
    return LogEntry(
        sequence,
        Operation(
            operation_id,
            node_id,
            kind,
            collection,
            record_id,
            Timestamp(wall_time, logical, timestamp_node_id),
            sequence_number,
            [] if causal_deps == "[]" else texts(causal_deps),
            schema_version,
            NULL if data is None else Raw(data),
            NULL if previous_data is None else Raw(previous_data),
            UNSET if atomic_ops is None else Raw(atomic_ops),
            UNSET if transaction_id is None else transaction_id,
            UNSET if mutation_name is None else mutation_name,
        ),
        stamp,
    )


def causal_key_of(row: Row) -> CausalKey:
    """The causal key in a row of `KEY_COLUMNS`. Raises like `entry_of`."""
    sequence, operation_id, causal_deps, wall_time, logical, timestamp_node_id = row
    return CausalKey(sequence, operation_id, texts(causal_deps), (wall_time, logical, timestamp_node_id))


def _json_text(text: Raw, empty: str = "null") -> str | None:
    """The JSON text, None for one that holds nothing."""
    column = str(text, "utf-8")
    return None if column in ("null", empty) else column


def texts(column: str) -> list[str]:
    """The list in a column `causal_deps`. Raises like `entry_of`. JavaScript may have escaped half surrogate pairs."""
    try:
        return _decode_texts(column)
    except msgspec.DecodeError:
        return msgspec.convert(json.loads(column), list[str])
