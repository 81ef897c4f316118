"""Log rows: what a column holds for what an operation says, and back."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import UNSET, Raw

from kora_daemon.model.operation import NULL
from kora_daemon.store.tables import (
    ENTRY_COLUMNS,
    META,
    OPERATIONS,
    Column,
    Row,
    Table,
    causal_key_of,
    entry_of,
    operation_row,
    vector_rows,
)
from tests.support.log import operation, plain


def columns_of(**changes: Any) -> dict[str, Any]:
    row = operation_row(operation(7, **changes), 1_800_000_000_000, 42)
    return dict(zip((column.name for column in OPERATIONS.columns), row, strict=True))


def entry_row(**changes: Any) -> Row:
    columns = columns_of() | changes
    return tuple(columns[name] for name in ENTRY_COLUMNS)


def test_a_row_has_a_value_for_every_column() -> None:
    assert columns_of() == {
        "id": "node-a:7",
        "node_id": "node-a",
        "type": "insert",
        "collection": "todos",
        "record_id": "record-7",
        "data": '{"title":"7"}',
        "previous_data": None,
        "atomic_ops": None,
        "wall_time": 1_700_000_000_007,
        "logical": 0,
        "timestamp_node_id": "node-a",
        "sequence_number": 7,
        "causal_deps": "[]",
        "schema_version": 1,
        "received_at": 1_800_000_000_000,
        "delivery_seq": 42,
        "transaction_id": None,
        "mutation_name": None,
        "record_stamp": None,
    }


@pytest.mark.parametrize("absent", [NULL, UNSET, Raw(b"{}")])
def test_atomic_operations_that_hold_nothing_are_null_in_the_database(absent: Raw) -> None:
    assert columns_of(atomic_ops=absent)["atomic_ops"] is None


def test_an_empty_object_is_data() -> None:
    assert columns_of(data=Raw(b"{}"))["data"] == "{}"


def test_causes_are_a_compact_json_list() -> None:
    assert columns_of(causal_deps=["x", 'q"é'])["causal_deps"] == '["x","q\\"é"]'


def test_the_json_columns_may_be_read_as_text_or_as_bytes() -> None:
    text = '{"t":"é"}'
    as_text, as_bytes = (entry_of(entry_row(data=form)).operation for form in (text, text.encode()))
    assert bytes(as_text.data) == bytes(as_bytes.data) == text.encode()


def test_half_a_surrogate_pair_among_the_causes_is_read() -> None:
    """Written so by the reference; the fast decoder refuses the escape."""
    assert entry_of(entry_row(causal_deps='["\\ud800","x"]')).operation.causal_deps == ["\ud800", "x"]


@pytest.mark.parametrize("damage", ["", "[", "{}", "[1]", "null"])
def test_causes_that_are_no_list_of_texts_are_damage(damage: str) -> None:
    with pytest.raises((ValueError, msgspec.DecodeError)):
        entry_of(entry_row(causal_deps=damage))
    with pytest.raises((ValueError, msgspec.DecodeError)):
        causal_key_of((1, "id", damage, 0, 0, "node"))


def test_a_row_becomes_the_operation_it_was_made_of() -> None:
    entry = entry_of(entry_row())
    assert (entry.sequence, entry.stamp) == (42, None)
    assert plain(entry.operation) == plain(operation(7))


def test_a_stamp_stands_beside_its_operation() -> None:
    row = operation_row(operation(7), 99, 42, '{"title":"7"}')
    columns = dict(zip((column.name for column in OPERATIONS.columns), row, strict=True))
    assert columns == columns_of() | {"received_at": 99, "record_stamp": '{"title":"7"}'}
    assert entry_of(tuple(columns[name] for name in ENTRY_COLUMNS)).stamp == '{"title":"7"}'


def test_the_vector_rises_once_for_each_author() -> None:
    appended = [operation(3), operation(0, "node-b"), operation(5), operation(4), operation(0, "node-b")]
    assert vector_rows(appended, 99) == [("node-a", 5, 99), ("node-b", 0, 99)]


def test_only_columns_without_a_promise_can_be_added_to_a_table_with_rows() -> None:
    addable = {column.name for column in OPERATIONS.columns if column.can_be_added}
    assert addable == {
        "data",
        "previous_data",
        "atomic_ops",
        "causal_deps",
        "delivery_seq",
        "transaction_id",
        "mutation_name",
        "record_stamp",
    }


def test_the_statements_of_a_table() -> None:
    table = Table("t", (Column("a", "TEXT", "PRIMARY KEY"), Column("b", "INTEGER")), {"i": ("b", "a")})
    assert table.creation == "CREATE TABLE IF NOT EXISTS t (a TEXT PRIMARY KEY, b INTEGER)"
    assert table.index_creations == ["CREATE INDEX IF NOT EXISTS i ON t (b, a)"]
    assert table.insertion == "INSERT INTO t (a, b) VALUES (?, ?)"
    assert [table.addition(column) for column in table.missing_columns(["a"])] == ["ALTER TABLE t ADD COLUMN b INTEGER"]
    assert META.missing_columns(["value", "key", "more"]) == []
