"""Binary frames say what text frames say, in both directions, and any bytes at all get an answer."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kora_daemon.model.delivery import DeliveryBatch
from kora_daemon.model.operation import encode_operation
from kora_daemon.protocol import messages as say
from kora_daemon.protocol.events import Malformed, Unknown
from kora_daemon.wire import json as text_codec
from kora_daemon.wire.protobuf import decode, encode, encode_batch
from tests.support.operations import batch_text, described, entry, wire_operation
from tests.support.protobuf import chunk, json_text, to_binary, varint
from tests.support.wire_values import json_objects, json_values, operations, whole_text

RIDERS = ("atomicOps", "transactionId", "mutationName")
small_operations = operations.map(
    lambda operation: (
        operation
        | {
            "schemaVersion": 1 + operation["schemaVersion"] % (2**31 - 1),
            "timestamp": operation["timestamp"] | {"logical": operation["timestamp"]["logical"] % 2**32},
        }
    )
)


def batch(*members: dict[str, Any]) -> bytes:
    return to_binary(
        {"type": "operation-batch", "messageId": "m-1", "operations": members, "isFinal": True, "batchIndex": 0}
    )


@settings(deadline=None, max_examples=150)
@given(small_operations)
def test_an_operation_is_read_as_from_its_text(operation: dict[str, Any]) -> None:
    read = decode(batch(operation))
    # A client sends no data for data without a member, and says nothing of members that are unset.
    unset = {name for name in RIDERS if operation.get(name) in (None, {})}
    if operation["data"] is None:
        unset.add("atomicOps")
    plain = {name: value for name, value in operation.items() if name not in unset}
    expected = text_codec.decode(batch_text(plain | {"data": operation["data"] or None}))
    assert isinstance(read, say.OperationBatch)
    assert isinstance(expected, say.OperationBatch)
    assert not isinstance(read, say.DamagedBatch)
    assert without_spelling(read.operations[0]) == without_spelling(expected.operations[0])


def without_spelling(operation: Any) -> Any:
    """What an operation says, its JSON members as values."""
    return {
        name: json.loads(value) if isinstance(value, bytes) else value for name, value in described(operation).items()
    }


@settings(deadline=None, max_examples=150)
@given(small_operations)
def test_an_operation_goes_out_as_a_stock_client_writes_it(operation: dict[str, Any]) -> None:
    message = {
        "type": "operation-batch",
        "messageId": "m-1",
        "operations": [operation],
        "isFinal": True,
        "batchIndex": 0,
    }
    read = text_codec.decode(json_text(message).encode())
    assert isinstance(read, say.OperationBatch)
    body = encode_operation(read.operations[0])
    assert encode_batch(DeliveryBatch("m-1", [entry(1, body=body)], True, 0)).payload == to_binary(message)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from([*wire_operation(), *RIDERS]), st.data())
def test_one_odd_operation_leaves_the_others_alone(name: str, data: st.DataObject) -> None:
    odd = wire_operation(2, atomicOps={"n": {"type": "max", "value": 1}}, transactionId="t", mutationName="m")
    if name in ("data", "previousData"):
        odd[name] = data.draw(json_objects)
    elif name in RIDERS:
        odd[name] = data.draw(json_values)
    elif isinstance(odd[name], str):
        odd[name] = data.draw(whole_text | st.just("x" * 300))
    elif isinstance(odd[name], int):
        odd[name] = data.draw(st.integers(-(2**63), 2**64 - 1))
    read = decode(batch(wire_operation(1), odd, wire_operation(3)))
    assert isinstance(read, say.OperationBatch)
    assert (read.operations[0].id, read.operations[-1].id) == ("op-1", "op-3")
    malformed = read.malformed if isinstance(read, say.DamagedBatch) else []
    assert len(read.operations) + len(malformed) == 3
    assert {one.code for one in malformed} <= {"INVALID_OPERATION"}


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=60))
def test_any_bytes_in_place_of_an_operation_leave_the_others_alone(content: bytes) -> None:
    first, last = batch(wire_operation(1)), batch(wire_operation(3))
    read = decode(first + chunk(11, content) + last)
    assert isinstance(read, say.OperationBatch)
    assert (read.operations[0].id, read.operations[-1].id) == ("op-1", "op-3")


def answer(frame: bytes) -> None:
    """Whatever the codec makes of a frame can be logged, and sent on when it is a message for others."""
    read = decode(frame, 100)
    if isinstance(read, Malformed):
        assert len(str(read.error).encode()) < 500
    elif not isinstance(read, Unknown):
        assert isinstance(read, say.Message)
        text_codec.encode(read)
        if isinstance(read, say.BlobRequest | say.BlobResponse):
            assert decode(encode(read).payload) == read
        for one in read.malformed if isinstance(read, say.DamagedBatch) else ():
            encode(say.OperationRejected("m", *[getattr(one, field) for field in one.__struct_fields__]))


@settings(deadline=None, max_examples=250)
@given(st.binary(max_size=200))
def test_any_bytes_get_an_answer(frame: bytes) -> None:
    answer(frame)


KINDS = [
    "handshake",
    "operation-batch",
    "acknowledgment",
    "error",
    "awareness-update",
    "blob-chunk-request",
    "blob-chunk-response",
    "blob-chunk-push",
    "heartbeat",
    "",
]
fields = st.tuples(st.integers(1, 40), st.binary(max_size=20)).map(lambda field: chunk(*field)) | st.tuples(
    st.integers(1, 40), st.integers(-(2**63), 2**64 - 1)
).map(lambda field: varint(field[0] << 3) + varint(field[1]))


@settings(deadline=None, max_examples=250)
@given(st.sampled_from(KINDS), st.lists(fields, max_size=8))
def test_an_envelope_of_any_fields_gets_an_answer(kind: str, members: list[bytes]) -> None:
    answer(chunk(1, kind.encode()) + b"".join(members))


@settings(deadline=None, max_examples=250)
@given(st.data())
def test_a_damaged_frame_gets_an_answer(data: st.DataObject) -> None:
    odd = wire_operation(
        2, atomicOps={"n": {"type": "max", "value": 1.5}}, data={"a": ["\ud800"]}, previousData={"a": 1}
    )
    frame = batch(wire_operation(1), odd)
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(frame)))
        frame = frame[:position] + data.draw(st.binary(max_size=3)) + frame[position + data.draw(st.integers(0, 5)) :]
    answer(frame)
