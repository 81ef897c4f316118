"""Operations on the wire: exact texts, and a malformed one does not spoil its batch (wire.md sections 2 and 7)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET

from kora_daemon.model.json_scan import MAX_NESTING
from kora_daemon.model.operation import Operation, encode_operation
from kora_daemon.protocol import messages as say
from kora_daemon.protocol.events import Malformed
from kora_daemon.wire.json import decode
from tests.support.operations import NOON_MS, batch_text, wire_operation

VECTORS = Path(__file__).parents[2] / "conformance" / "data" / "vectors" / "operation-structure.json"
LENIENT = b',"extra":"\\ud800"}'
"""Closes a frame so that the typed decoder refuses it and the second reading takes over."""


def readings(text: bytes) -> list[say.OperationBatch]:
    """A batch as each of the two decoders reads it."""
    both = [decode(text), decode(text[:-1] + LENIENT)]
    batches = [message for message in both if isinstance(message, say.OperationBatch)]
    assert len(batches) == 2
    return batches


def with_text(name: str, value: bytes) -> bytes:
    """The frame of one operation with this very text as the value of one member."""
    return batch_text(wire_operation(**{name: "@"})).replace(b'"@"', value)


def the_one(batch: say.OperationBatch) -> Operation:
    assert not isinstance(batch, say.DamagedBatch) or batch.malformed == []
    [operation] = batch.operations
    return operation


def refused(text: bytes) -> list[tuple[str, str]]:
    """Id and code of the operations that were refused."""
    batch = decode(text)
    assert isinstance(batch, say.DamagedBatch)
    return [(rejection.operation_id, rejection.code) for rejection in batch.malformed]


EXACT = [
    b"{}",
    b"null",
    b'{"z":1,"a":2,"m":{"z":1,"a":2}}',
    b'{ "spaced" :\t[ 1 , 2 ] }',
    b'{"n":1.50,"m":1e400,"o":-0,"p":1E+2,"q":12345678901234567890,"r":0.1e-7}',
    b'{"n":' + b"9" * 4_000 + b"}",
    b'{"twice":1,"twice":2}',
    b'{"escaped":"\\u0041\\/\\n\\u00e4","raw":"\xc3\xa4\xf0\x9f\x98\x80"}',
    b'{"pair":"\\ud83d\\ude00"}',
    b'{"half":"\\ud800","\\udfff":"\\uDC00x"}',
    b'{"body":{"$koraBytes":"AQID"}}',
    b'{"body":{"__kora_bytes__":"AQID"}}',
    b'{"body":{"0":1,"1":255}}',
    b'{"__proto__":{"a":1},"constructor":null}',
    b'{"text":"' + b"1234567890" * 1_000 + b'"}',
    b'{"zero":"\\u0000"}',
]


@pytest.mark.parametrize("value", EXACT, ids=lambda value: value[:25].decode())
@pytest.mark.parametrize("name", ["data", "previousData"])
def test_data_goes_out_as_it_came_in(name: str, value: bytes) -> None:
    for batch in readings(with_text(name, value)):
        operation = the_one(batch)
        raw = operation.data if name == "data" else operation.previous_data
        assert bytes(raw) == value
        assert b'"%s":%s' % (name.encode(), value) in encode_operation(operation)


def test_a_repeated_member_counts_as_its_last_one_does() -> None:
    text = batch_text(wire_operation()).replace(b'"data": ', b'"data": {"first": 1}, "data": ')
    for batch in readings(text):
        assert json.loads(bytes(the_one(batch).data)) == {"title": "x"}


@pytest.mark.parametrize("missing", [("data",), ("previousData",), ("data", "previousData")])
def test_missing_data_is_null(missing: tuple[str, ...]) -> None:
    members = {name: value for name, value in wire_operation().items() if name not in missing}
    for batch in readings(batch_text(members)):
        sent = json.loads(encode_operation(the_one(batch)))
        assert [sent[name] for name in missing] == [None] * len(missing)


def test_atomic_operations_go_out_as_they_came_in() -> None:
    value = b'{"n": {"value":1.50,"type":"increment"},"tags":{"type":"append","value":[1e400,"\\u00e4"]}}'
    for batch in readings(with_text("atomicOps", value)):
        assert bytes(the_one(batch).atomic_ops) == value  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [None, {}])
def test_empty_atomic_operations_count_as_absent(value: object) -> None:
    for batch in readings(batch_text(wire_operation(atomicOps=value))):
        assert the_one(batch).atomic_ops is UNSET


@pytest.mark.parametrize("name", ["transactionId", "mutationName", "atomicOps"])
def test_optional_members_are_absent_when_unset_never_null(name: str) -> None:
    sparse: list[dict[str, Any]] = [{}, {name: None}]
    for members in sparse:
        for batch in readings(batch_text(wire_operation(**members))):
            assert name not in json.loads(encode_operation(the_one(batch)))


def test_optional_members_come_through() -> None:
    members: dict[str, Any] = {
        "transactionId": "t-1",
        "mutationName": "",
        "atomicOps": {"n": {"type": "max", "value": 2}},
    }
    for batch in readings(batch_text(wire_operation(**members))):
        assert json.loads(encode_operation(the_one(batch))) == wire_operation(**members)


def test_members_that_no_client_of_today_writes_are_dropped() -> None:
    for batch in readings(batch_text(wire_operation(extra=1))):
        assert json.loads(encode_operation(the_one(batch))) == wire_operation()


@pytest.mark.parametrize(("spelling", "number"), [(b"5.0", 5), (b"5e0", 5), (b"0.5E1", 5), (b"50e-1", 5)])
@pytest.mark.parametrize("name", ["sequenceNumber", "schemaVersion"])
def test_integers_count_in_any_spelling(name: str, spelling: bytes, number: int) -> None:
    for batch in readings(with_text(name, spelling)):
        assert json.loads(encode_operation(the_one(batch)))[name] == number


@pytest.mark.parametrize("wall_time", [-1, 2**63, 2**64])
def test_clock_readings_out_of_range_are_judged_later(wall_time: int) -> None:
    timestamp = {"wallTime": wall_time, "logical": 0, "nodeId": "n"}
    for batch in readings(batch_text(wire_operation(timestamp=timestamp))):
        assert the_one(batch).timestamp.wall_time == int(float(wall_time))


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_malformed_operation_does_not_spoil_its_batch(position: int) -> None:
    operations: list[Any] = [wire_operation(1), wire_operation(2)]
    operations.insert(position, wire_operation(3, type="upsert"))
    batch = decode(batch_text(*operations))
    assert isinstance(batch, say.DamagedBatch)
    assert [operation.id for operation in batch.operations] == ["op-1", "op-2"]
    [rejection] = batch.malformed
    assert (rejection.operation_id, rejection.collection, rejection.record_id) == ("op-3", "todos", "rec-3")
    assert (rejection.code, rejection.retriable) == ("INVALID_OPERATION", False)
    assert rejection.message == (
        'The operation is malformed: type is the text "upsert", expected one of insert, update, delete'
    )
    assert batch.last_sequence_number == [2, 2, 3][position]
    assert batch.size_bytes == len(batch_text(*operations))


@pytest.mark.parametrize("member", [None, 5, "op", [], True, {}, {"id": 5}, {"id": "\ud800"}])
def test_what_is_no_operation_at_all_is_refused_with_the_name_it_has(member: object) -> None:
    batch = decode(batch_text(wire_operation(), member))
    assert isinstance(batch, say.DamagedBatch)
    assert len(batch.operations) == 1
    assert [rejection.operation_id for rejection in batch.malformed] in ([""], ["?"])
    assert batch.last_sequence_number == 0


@pytest.mark.parametrize("number", [-5, 1.5, "7", None, True, 10**400])
def test_a_malformed_sequence_number_is_acknowledged_as_some_number(number: object) -> None:
    batch = decode(batch_text(wire_operation(sequenceNumber=number)))
    assert isinstance(batch, say.DamagedBatch)
    assert batch.last_sequence_number == 0


@pytest.mark.parametrize("part", ["wallTime", "logical"])
@pytest.mark.parametrize("value", [1.5, 1e-3, 1e400])
def test_a_clock_of_fractions_is_no_clock_reading(part: str, value: float) -> None:
    timestamp = {"wallTime": NOON_MS, "logical": 0, "nodeId": "n", part: value}
    text = json.dumps(timestamp).replace("Infinity", "1e400").encode()
    assert refused(with_text("timestamp", text)) == [("op-1", "INVALID_TIMESTAMP")]


WRONG = [5, -1, 1.5, True, None, "", "x", "\ud800", [], [1], {}, {"a": 1}, 2**53, 10**400]


@pytest.mark.parametrize("name", wire_operation(atomicOps=None, transactionId=None, mutationName=None))
def test_no_value_of_any_member_raises_or_spoils_the_others(name: str) -> None:
    for value in WRONG:
        batch = decode(batch_text(wire_operation(1), wire_operation(2, **{name: value}), wire_operation(3)))
        assert isinstance(batch, say.OperationBatch)
        names = [operation.id for operation in batch.operations]
        assert (names[0], names[-1]) == ("op-1", "op-3")
        damaged = len(batch.malformed) if isinstance(batch, say.DamagedBatch) else 0
        assert len(names) + damaged == 3


def nested(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


@pytest.mark.parametrize("name", ["data", "previousData", "atomicOps"])
def test_an_operation_nested_beyond_reading_is_refused_alone(name: str) -> None:
    value = nested(MAX_NESTING + 1)
    if name == "atomicOps":
        value = b'{"n":{"type":"append","value":%s}}' % value
    text = batch_text(wire_operation(1), wire_operation(2, **{name: "@"})).replace(b'"@"', value)
    assert refused(text) == [("op-2", "INVALID_OPERATION")]


def test_an_operation_may_be_nested_deeply() -> None:
    for batch in readings(with_text("data", nested(MAX_NESTING))):
        assert bytes(the_one(batch).data) == nested(MAX_NESTING)


def test_many_brackets_are_not_deep() -> None:
    value = b'{"a":[%s]}' % b",".join([b"[]"] * (2 * MAX_NESTING))
    for batch in readings(with_text("data", value)):
        assert bytes(the_one(batch).data) == value


def test_a_number_that_nobody_could_read_again_is_malformed() -> None:
    # JavaScript prints at most 22 digits; what is in the log has to be readable by every session.
    assert isinstance(decode(with_text("data", b'{"n":' + b"9" * 4_301 + b"}")), Malformed)


def test_an_operation_nested_beyond_the_parser_is_malformed() -> None:
    assert isinstance(decode(with_text("data", nested(100_000))), Malformed)


CASES = json.loads(VECTORS.read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_every_case_of_the_structure_vectors_gets_its_verdict(case: dict[str, Any]) -> None:
    text = batch_text(case["operation"], wire_operation(9))
    for batch in (decode(text), decode(text[:-1] + LENIENT)):
        assert isinstance(batch, say.OperationBatch)
        malformed = batch.malformed if isinstance(batch, say.DamagedBatch) else []
        if case["valid"]:
            assert len(batch.operations) == 2
            assert malformed == []
        else:
            assert [operation.id for operation in batch.operations] == ["op-9"]
            assert [rejection.code for rejection in malformed] == ["INVALID_OPERATION"]


def test_the_vectors_are_there() -> None:
    assert len(CASES) == 71
