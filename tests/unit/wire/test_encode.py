"""Messages as they leave the server: the names of recorded traffic, in the order of recorded traffic."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from kora_daemon.model.delivery import DeliveryBatch
from kora_daemon.model.operation import encode_operation
from kora_daemon.protocol import messages as say
from kora_daemon.wire.json import decode, encode, encode_batch
from tests.support.operations import batch_text, entry, frame_text, operation, wire_operation

RECORDED: list[tuple[say.Message, str]] = [
    (
        say.HandshakeResponse(
            "m",
            "n",
            {"a": 1},
            1,
            accepted=True,
            selected_wire_format="json",
            server_time=5,
            server_max_delivery_sequence=0,
            accepted_scope={"todos": {}},
        ),
        "type messageId nodeId versionVector schemaVersion accepted selectedWireFormat serverTime "
        "serverMaxDeliverySequence acceptedScope",
    ),
    (
        say.HandshakeResponse(
            "m",
            "n",
            {},
            1,
            accepted=True,
            selected_wire_format="json",
            server_time=5,
            server_max_delivery_sequence=0,
            blob_storage_enabled=True,
        ),
        "type messageId nodeId versionVector schemaVersion accepted selectedWireFormat serverTime "
        "serverMaxDeliverySequence blobStorageEnabled",
    ),
    (
        say.HandshakeResponse(
            "m",
            "n",
            {},
            1,
            accepted=False,
            reject_reason="SCHEMA_MISMATCH",
            supported_schema_min=1,
            supported_schema_max=1,
            server_time=5,
        ),
        "type messageId nodeId versionVector schemaVersion accepted rejectReason supportedSchemaMin "
        "supportedSchemaMax serverTime",
    ),
    (say.Acknowledgment("m", "x", 0), "type messageId acknowledgedMessageId lastSequenceNumber"),
    (say.ErrorMessage("m", "C", "t", False), "type messageId code message retriable"),
    (
        say.OperationRejected("m", "op", "c", "r", "C", "t", False),
        "type messageId operationId collection recordId code message retriable",
    ),
    (say.AwarenessUpdate("m", 1, {"1": Raw(b"{}")}), "type messageId clientId states"),
    (say.DocumentUpdate("m", "c", "r", "f", "AA=="), "type messageId collection recordId field update"),
    (say.BlobRequest("m", "q", "h"), "type messageId requestId hash"),
    (say.BlobResponse("m", "q", None), "type messageId requestId bytes"),
]
TYPES = {
    say.HandshakeResponse: "handshake-response",
    say.Acknowledgment: "acknowledgment",
    say.ErrorMessage: "error",
    say.OperationRejected: "operation-rejected",
    say.AwarenessUpdate: "awareness-update",
    say.DocumentUpdate: "yjs-doc-update",
    say.BlobRequest: "blob-chunk-request",
    say.BlobResponse: "blob-chunk-response",
}


@pytest.mark.parametrize(("message", "names"), RECORDED, ids=lambda value: type(value).__name__)
def test_names_and_order_are_those_of_recorded_traffic(message: say.Message, names: str) -> None:
    frame = encode(message)
    sent = json.loads(frame.payload)
    assert list(sent) == names.split()
    assert sent["type"] == TYPES[type(message)]
    assert not frame.binary


def test_a_client_id_is_printed_as_the_integer_it_is() -> None:
    assert b'"clientId":31,' in encode(say.AwarenessUpdate("m", 31, {})).payload


@pytest.mark.parametrize(
    ("kind", "members"),
    [
        ("yjs-doc-update", {"collection": "c", "recordId": "r", "field": "f", "update": "AA=="}),
        ("blob-chunk-response", {"requestId": "q", "bytes": None}),
        ("blob-chunk-request", {"requestId": "q", "hash": "h"}),
    ],
)
def test_what_is_passed_on_goes_out_as_it_came_in(kind: str, members: dict[str, Any]) -> None:
    for text in (frame_text(kind, **members), frame_text(kind, **members, extra="\ud800")):
        message = decode(text)
        assert isinstance(message, say.Message)
        assert json.loads(encode(message).payload) == {"type": kind, "messageId": "m-1"} | members


BATCH = "type messageId operations isFinal batchIndex"


@pytest.mark.parametrize(
    ("batch", "names"),
    [
        (
            DeliveryBatch("m", [entry(1)], False, 3, base=4, maximum=9),
            f"{BATCH} baseDeliverySequence maxDeliverySequence",
        ),
        (DeliveryBatch("m", [entry(1)], False, 3, total=7, cursor="e30"), f"{BATCH} totalBatches cursor"),
        (DeliveryBatch("m", [entry(1)], True, 0), BATCH),
    ],
    ids=["delivery", "delta", "live"],
)
def test_batches_have_the_names_and_order_of_recorded_traffic(batch: DeliveryBatch, names: str) -> None:
    assert list(json.loads(encode_batch(batch).payload)) == names.split()


def test_a_delivery_batch_says_where_it_stands_in_the_chain() -> None:
    bodies = [entry(5, body=b'{"id":"a"}'), entry(6, body=b'{"id":"b"}')]
    sent = json.loads(encode_batch(DeliveryBatch("m", bodies, True, 2, base=4, maximum=9)).payload)
    assert sent == {
        "type": "operation-batch",
        "messageId": "m",
        "operations": [{"id": "a"}, {"id": "b"}],
        "isFinal": True,
        "batchIndex": 2,
        "baseDeliverySequence": 4,
        "maxDeliverySequence": 9,
    }


def test_an_empty_final_batch_may_start_at_zero() -> None:
    sent = json.loads(encode_batch(DeliveryBatch("m", [], True, 0, base=0, maximum=0)).payload)
    assert (sent["operations"], sent["baseDeliverySequence"], sent["maxDeliverySequence"]) == ([], 0, 0)


def test_a_shared_batch_is_encoded_once() -> None:
    batch = DeliveryBatch("m", [entry(1)], True, 0)
    assert encode_batch(batch) is encode_batch(batch)


def test_an_operation_travels_from_one_client_to_another_unchanged() -> None:
    members = wire_operation(transactionId="t", mutationName="m", atomicOps={"n": {"type": "min", "value": 1}})
    upload = decode(batch_text(members))
    assert isinstance(upload, say.OperationBatch)
    body = encode_operation(upload.operations[0])
    sent = encode_batch(DeliveryBatch("m", [entry(1, body=body)], True, 0)).payload
    assert json.loads(sent)["operations"] == [members]


def test_an_operation_built_by_the_server_has_all_required_members() -> None:
    assert set(json.loads(encode_operation(operation()))) == set(wire_operation())
