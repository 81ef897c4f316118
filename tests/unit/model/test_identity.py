"""Content ids of operations and UUIDv7: what is not hashed, what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import UNSET, Raw
from msgspec.structs import replace

from kora_daemon.model.clock import InvalidTimestamp
from kora_daemon.model.identity import content_text, is_uuid7, operation_id, uuid7, uuid7_time_ms
from kora_daemon.model.operation import NULL, Operation, Timestamp

INSERT = Operation(
    id="x",
    node_id="node-a",
    type="insert",
    collection="todos",
    record_id="rec-1",
    timestamp=Timestamp(1_700_000_000_000, 0, "node-a"),
    sequence_number=1,
    causal_deps=[],
    schema_version=1,
    data=Raw(b'{"title": "Buy milk"}'),
)


@pytest.mark.parametrize("atomic_ops", [UNSET, NULL, Raw(b"{}")])
def test_no_atomic_operations_are_left_out_of_the_content(atomic_ops: Any) -> None:
    assert "atomicOps" not in json.loads(content_text(replace(INSERT, atomic_ops=atomic_ops)))


def test_the_id_an_operation_already_has_does_not_count() -> None:
    assert operation_id(replace(INSERT, id="another")) == operation_id(INSERT)


@pytest.mark.parametrize(
    "change",
    [
        {"type": "update"},
        {"collection": "notes"},
        {"record_id": "rec-2"},
        {"data": NULL},
        {"timestamp": Timestamp(1_700_000_000_000, 1, "node-a")},
        {"node_id": "node-b"},
        {"atomic_ops": Raw(b'{"n":{"type":"increment","value":1}}')},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_part_of_the_content_changes_the_id(change: dict[str, Any]) -> None:
    assert operation_id(replace(INSERT, **change)) != operation_id(INSERT)


def test_a_timestamp_without_text_form_has_no_id() -> None:
    with pytest.raises(InvalidTimestamp, match="100000"):
        operation_id(replace(INSERT, timestamp=Timestamp(0, 100_000, "node-a")))


def test_a_new_uuid_is_one_and_tells_its_time() -> None:
    made = uuid7(1_700_000_000_123, bytes(range(16)))
    assert is_uuid7(made)
    assert uuid7_time_ms(made) == 1_700_000_000_123


def test_uuids_sort_by_time() -> None:
    assert uuid7(1, b"\xff" * 16) < uuid7(2, b"\x00" * 16)


def test_uuid_needs_sixteen_random_bytes() -> None:
    with pytest.raises(ValueError, match="found 15"):
        uuid7(0, bytes(15))


def test_only_a_uuid_tells_a_time() -> None:
    with pytest.raises(ValueError, match="rec-1"):
        uuid7_time_ms("rec-1")
