"""The codec has an answer for every frame, and its two readings of an operation agree."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kora_daemon.model.operation import encode_operation
from kora_daemon.protocol import messages as say
from kora_daemon.protocol.events import Malformed, Unknown
from kora_daemon.wire.json import decode, encode
from kora_daemon.wire.lenient import read_leniently
from tests.support.operations import batch_text, described, wire_operation
from tests.support.wire_values import json_values, operations, whole_text

KINDS = [
    "handshake",
    "operation-batch",
    "acknowledgment",
    "error",
    "awareness-update",
    "yjs-doc-update",
    "blob-chunk-request",
    "blob-chunk-response",
    "blob-chunk-push",
    "heartbeat",
]
NAMES = [
    "nodeId",
    "versionVector",
    "schemaVersion",
    "lastDeliverySequence",
    "syncScope",
    "operations",
    "isFinal",
    "batchIndex",
    "sizeBytes",
    "acknowledgedMessageId",
    "lastSequenceNumber",
    "deliverySequence",
    "code",
    "message",
    "retriable",
    "clientId",
    "states",
    "collection",
    "recordId",
    "field",
    "update",
    "requestId",
    "hash",
    "bytes",
]


def spelled(operation: dict[str, Any], *, escaped: bool, spaced: bool) -> bytes:
    """The frame of one operation; lone surrogates must be escaped."""
    text = batch_text(operation)
    if not escaped:
        text = json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8", "surrogatepass")
        try:
            text.decode()
        except UnicodeDecodeError:
            text = batch_text(operation)
    return text if spaced else text.replace(b": ", b":").replace(b", ", b",")


@settings(deadline=None, max_examples=150)
@given(operations, st.booleans(), st.booleans())
def test_both_readings_of_a_batch_agree(operation: dict[str, Any], escaped: bool, spaced: bool) -> None:
    text = spelled(operation, escaped=escaped, spaced=spaced)
    first, second = decode(text), read_leniently(text)
    assert isinstance(first, say.OperationBatch)
    assert isinstance(second, say.DamagedBatch)
    assert second.malformed == []
    assert not isinstance(first, say.DamagedBatch) or first.malformed == []
    assert [described(one) for one in first.operations] == [described(one) for one in second.operations]
    assert (first.size_bytes, first.message_id) == (second.size_bytes, second.message_id)


@settings(deadline=None, max_examples=150)
@given(operations, st.booleans())
def test_what_comes_in_goes_out(operation: dict[str, Any], escaped: bool) -> None:
    batch = decode(spelled(operation, escaped=escaped, spaced=True))
    assert isinstance(batch, say.OperationBatch)
    body = encode_operation(batch.operations[0])
    unset = {name for name in ("atomicOps", "transactionId", "mutationName") if operation.get(name) in (None, {})}
    expected = {"data": None, "previousData": None} | operation
    expected = {name: value for name, value in expected.items() if name not in unset and name != "extra"}
    assert json.loads(body) == json.loads(json.dumps(expected))
    body.decode()


@settings(deadline=None, max_examples=200)
@given(st.sampled_from([*wire_operation(), "atomicOps", "transactionId", "mutationName"]), json_values, json_values)
def test_one_odd_operation_leaves_the_others_alone(name: str, value: Any, member: Any) -> None:
    batch = decode(batch_text(wire_operation(1), wire_operation(2, **{name: value}), member, wire_operation(3)))
    assert isinstance(batch, say.DamagedBatch)
    assert (batch.operations[0].id, batch.operations[-1].id) == ("op-1", "op-3")
    assert len(batch.operations) + len(batch.malformed) == 4
    for rejection in batch.malformed:
        assert rejection.code in ("INVALID_OPERATION", "INVALID_TIMESTAMP")
        encode(say.OperationRejected("m", *[getattr(rejection, field) for field in rejection.__struct_fields__]))


def answer(text: bytes) -> None:
    """Whatever the codec makes of a frame can be logged, and sent on when it is a message for others."""
    read = decode(text)
    if isinstance(read, Malformed):
        str(read.error).encode()
    elif not isinstance(read, Unknown):
        assert isinstance(read, say.Message)
        json.loads(encode(read).payload)


@settings(deadline=None, max_examples=250)
@given(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(NAMES), json_values, max_size=8), json_values)
def test_a_message_of_any_members_gets_an_answer(kind: str, members: dict[str, Any], message_id: Any) -> None:
    answer(json.dumps(members | {"type": kind, "messageId": message_id}).encode())
    answer(json.dumps(members | {"type": kind, "messageId": "m"}).encode())


@settings(deadline=None, max_examples=150)
@given(json_values)
def test_any_json_gets_an_answer(value: Any) -> None:
    answer(json.dumps(value).encode())


@settings(deadline=None, max_examples=250)
@given(st.text(st.sampled_from('{}[]":,\\ud80019eE+-.tfn \n'), max_size=40) | whole_text)
def test_any_text_gets_an_answer(text: str) -> None:
    answer(text.encode())


@settings(deadline=None, max_examples=250)
@given(st.data())
def test_a_damaged_frame_gets_an_answer(data: st.DataObject) -> None:
    operation = wire_operation(atomicOps={"n": {"type": "max", "value": 1.5}}, data={"a": ["\ud800"]})
    text = batch_text(operation).decode()
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(text)))
        text = text[:position] + data.draw(whole_text) + text[position + data.draw(st.integers(0, 9)) :]
    answer(text.encode())
