"""What a column holds for a value of each kind, and what it shows (store.md sections 3, 4 and 11)."""

from __future__ import annotations

from typing import Any

import pytest

from kora_daemon.materialization.columns import (
    Dialect,
    column_names,
    column_type,
    column_value,
    field_value,
    record_of,
    record_row,
)
from kora_daemon.materialization.fold import RecordState
from kora_daemon.materialization.json_text import OVERFLOW
from kora_daemon.model.schema import KINDS, Kind

SQLITE, POSTGRES = Dialect.SQLITE, Dialect.POSTGRES


@pytest.mark.parametrize(
    ("kind", "value", "sqlite", "postgres"),
    [
        ("string", "é", "é", "é"),
        ("string", "", "", ""),
        ("string", "a\0b", "a\0b", "a\ufffdb"),
        ("string", "a\ud800b", "a\ufffdb", "a\ufffdb"),
        ("string", "\ude00\ud83d", "\ufffd\ufffd", "\ufffd\ufffd"),
        ("string", 5, None, None),
        ("string", {"a": 1}, None, None),
        ("enum", "no-such", "no-such", "no-such"),
        ("enum", ["low"], None, None),
        ("secret", "v1.x", "v1.x", "v1.x"),
        ("secret", True, None, None),
        ("number", 7, 7.0, 7.0),
        ("number", 9007199254740993, 9007199254740992.0, 9007199254740992.0),
        ("number", 5e-324, 5e-324, 5e-324),
        ("number", OVERFLOW, None, None),
        ("number", "12", None, None),
        ("number", True, None, None),
        ("timestamp", 1_700_000_000_000, 1_700_000_000_000, 1_700_000_000_000),
        ("timestamp", 1.7e12, 1_700_000_000_000, 1_700_000_000_000),
        ("timestamp", 1.5, 1.5, 1),
        ("timestamp", -1.5, -1.5, -2),
        ("timestamp", 2**63, float(2**63), None),
        ("timestamp", -(2**63), -(2**63), -(2**63)),
        ("timestamp", 1e300, 1e300, None),
        ("timestamp", OVERFLOW, None, None),
        ("timestamp", "2024-01-01", None, None),
        ("timestamp", False, None, None),
        ("boolean", True, 1, 1),
        ("boolean", False, 0, 0),
        ("boolean", 0, 0, 0),
        ("boolean", -0.0, 0, 0),
        ("boolean", "", 0, 0),
        ("boolean", "0", 1, 1),
        ("boolean", [], 1, 1),
        ("boolean", {}, 1, 1),
        ("boolean", OVERFLOW, 1, 1),
        ("json", "17", '"17"', '"17"'),
        ("json", {"b": 1, "a": [None, True]}, '{"b":1,"a":[null,true]}', '{"b":1,"a":[null,true]}'),
        ("json", {"$koraBytes": "AQID"}, '{"$koraBytes":"AQID"}', '{"$koraBytes":"AQID"}'),
        ("json", False, "false", "false"),
        ("json", "a\0b\\u0000", '"a\\u0000b\\\\u0000"', '"a\ufffdb\\\\u0000"'),
        ("json", ["\ud800é"], '["\\ud800\\u00e9"]', '["\ufffd\\u00e9"]'),
        ("json", ["😀\ud800"], '["\\ud83d\\ude00\\ud800"]', '["\\ud83d\\ude00\ufffd"]'),
        ("array", "no list", '"no list"', '"no list"'),
        ("object", [], "[]", "[]"),
        ("blob", {"hash": "0f", "x": "\0"}, '{"hash":"0f","x":"\\u0000"}', '{"hash":"0f","x":"\\u0000"}'),
        ("richtext", {"$koraBytes": "AQL/"}, b"\x01\x02\xff", b"\x01\x02\xff"),
        ("richtext", {"__kora_bytes__": "AQL/"}, b"\x01\x02\xff", b"\x01\x02\xff"),
        ("richtext", {"0": 1, "1": 255}, b"\x01\xff", b"\x01\xff"),
        ("richtext", "é\0\ud800", "é\0\ufffd", "é\0\ufffd".encode()),
        ("richtext", "", "", b""),
        ("richtext", {"0": 1, "1": 256}, None, None),
        ("richtext", {"$koraBytes": "no base64!"}, None, None),
        ("richtext", {"__kora_bytes__": 1}, None, None),
        ("richtext", {}, None, None),
        ("richtext", 7, None, None),
    ],
)
def test_a_value_goes_into_its_column(kind: Kind, value: Any, sqlite: Any, postgres: Any) -> None:
    for dialect, expected in ((SQLITE, sqlite), (POSTGRES, postgres)):
        column = column_value(kind, value, dialect)
        assert column == expected
        assert type(column) is type(expected)


@pytest.mark.parametrize(
    ("kind", "column", "shown"),
    [
        ("string", "é", "é"),
        ("string", b"bytes", None),
        ("number", 5.0, 5),
        ("number", -0.0, 0),
        ("number", 0.5, 0.5),
        ("number", 1e300, 1e300),
        ("number", float("inf"), None),
        ("number", "abc", None),
        ("timestamp", 1_700_000_000_000, 1_700_000_000_000),
        ("timestamp", 1.5, 1.5),
        ("timestamp", "1700000000000", None),
        ("boolean", 1, True),
        ("boolean", 0, False),
        ("boolean", "no", False),
        ("json", '{"a": [1, null]}', {"a": [1, None]}),
        ("json", "null", None),
        ("json", "a bare string", "a bare string"),
        ("array", "17", 17),
        ("blob", '{"hash":"0f","size":1}', {"hash": "0f", "size": 1}),
        ("object", b"{}", None),
        ("richtext", b"\x01", b"\x01"),
        ("richtext", "text", "text"),
        ("richtext", 1.5, None),
    ],
)
def test_a_column_shows_its_value(kind: Kind, column: Any, shown: Any) -> None:
    assert field_value(kind, column) == shown
    assert type(field_value(kind, column)) is type(shown)


def test_columns_have_the_types_of_the_reference() -> None:
    assert {kind: (column_type(kind, SQLITE), column_type(kind, POSTGRES)) for kind in KINDS} == {
        "string": ("TEXT", "TEXT"),
        "enum": ("TEXT", "TEXT"),
        "secret": ("TEXT", "TEXT"),
        "number": ("REAL", "DOUBLE PRECISION"),
        "boolean": ("INTEGER", "INTEGER"),
        "timestamp": ("INTEGER", "BIGINT"),
        "array": ("TEXT", "JSONB"),
        "object": ("TEXT", "JSONB"),
        "json": ("TEXT", "JSONB"),
        "blob": ("TEXT", "TEXT"),
        "richtext": ("BLOB", "BYTEA"),
    }


def test_a_row_has_the_fields_of_the_schema_in_their_order_and_no_other() -> None:
    kinds: dict[str, Kind] = {"title": "string", "tags": "array", "done": "boolean"}
    state = RecordState(10, (20, 3, "node-a"), True, {"tags": ["x"], "id": "evil", "surprise": 1, "title": "t"}, {})
    row = record_row(kinds, "r", state, SQLITE)
    assert dict(zip(column_names(kinds), row, strict=True)) == {
        "id": "r",
        "title": "t",
        "tags": '["x"]',
        "done": None,
        "_created_at": 10,
        "_updated_at": 20,
        "_deleted": 0,
    }
    record = {"id": "r", "title": "t", "tags": ["x"], "done": None, "_created_at": 10, "_updated_at": 20}
    assert record_of(kinds, row) == record
    assert list(record_of(kinds, row)) == list(record)


def test_a_tombstone_keeps_its_fields() -> None:
    kinds: dict[str, Kind] = {"title": "string"}
    state = RecordState(10, (20, 3, "node-a"), False, {"title": "t"}, {})
    assert record_row(kinds, "r", state, SQLITE) == ("r", "t", 10, 20, 1)
