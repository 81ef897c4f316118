"""Byte-exact protobuf frames of the stock client: what the server reads in them, and what it writes (wire.md 8)."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kora_daemon.model.delivery import DeliveryBatch, DeliveryEntry, LogEntry
from kora_daemon.protocol import messages as say
from kora_daemon.protocol.events import Malformed, Unknown
from kora_daemon.wire import json as text_codec
from kora_daemon.wire import protobuf
from tests.support.operations import described, entry
from tests.support.protobuf import from_binary, to_binary

Case = dict[str, Any]
WIRE = Path(__file__).parent / "data" / "wire"
CASES: list[Case] = json.loads((WIRE.parent / "vectors" / "protobuf.json").read_text())["cases"]

WRITTEN: dict[str, type[say.Message]] = {
    "handshake-response": say.HandshakeResponse,
    "acknowledgment": say.Acknowledgment,
    "error": say.ErrorMessage,
    "operation-rejected": say.OperationRejected,
    "blob-chunk-request": say.BlobRequest,
    "blob-chunk-response": say.BlobResponse,
}
"""What the server says besides batches."""
NOT_HEARD = ("handshake-response", "operation-rejected")
"""What only servers say."""
NO_OPERATION = ("batch empty strings", "operation with nothing in it")
"""A stock client takes these for operations, this server refuses them (store.md 1)."""
REFUSED: dict[str, type[Any]] = {
    "awareness leaves an empty envelope": Unknown,
    "doc update leaves an empty envelope": Unknown,
    "operation that has data but no text for it": say.DamagedBatch,
    "unknown type": Unknown,
    "truncated string": Malformed,
    "truncated varint": Malformed,
    "length beyond the end": Malformed,
}
"""Bytes that a client refuses, and what they are to this server."""


def frame_of(case: Case) -> bytes:
    return base64.b64decode(case["base64"])


def meant(case: Case) -> dict[str, Any]:
    """The message that the bytes stand for."""
    message: dict[str, Any] = case.get("decoded") or case["message"]
    return message


def by_name(cases: list[Case]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=[case["name"] for case in cases])


UNDERSTOOD = [case for case in CASES if "decode_error" not in case]


@by_name([case for case in UNDERSTOOD if meant(case)["type"] not in NOT_HEARD and case["name"] not in NO_OPERATION])
def test_a_frame_says_the_same_as_its_text_would(case: Case) -> None:
    read, expected = protobuf.decode(frame_of(case)), text_codec.decode(compact(meant(case)))
    assert isinstance(read, say.Message)
    assert understood(read) == understood(expected)


def understood(message: say.Message | Malformed | Unknown) -> dict[str, Any]:
    """A message as the server takes it: formats that it does not know make no difference."""
    said: dict[str, Any] = described(message)
    if isinstance(message, say.Handshake):
        formats = message.supported_wire_formats or ()
        said["supported_wire_formats"] = [name for name in formats if name in ("json", "protobuf")]
    return said


@by_name([case for case in UNDERSTOOD if meant(case)["type"] in NOT_HEARD])
def test_what_only_servers_say_means_nothing_to_one(case: Case) -> None:
    assert protobuf.decode(frame_of(case)) == Unknown(meant(case)["type"])


@by_name([case for case in CASES if case["name"] in NO_OPERATION])
def test_an_operation_without_names_is_refused_alone(case: Case) -> None:
    read = protobuf.decode(frame_of(case))
    assert isinstance(read, say.DamagedBatch)
    assert [one.code for one in read.malformed] == ["INVALID_OPERATION"]


@by_name([case for case in CASES if "decode_error" in case])
def test_what_a_client_refuses_is_answered_or_passed_over(case: Case) -> None:
    assert isinstance(protobuf.decode(frame_of(case)), REFUSED[case["name"]])


@by_name([case for case in CASES if case.get("message", {}).get("type") in WRITTEN])
def test_what_the_server_says_is_what_the_reference_writes(case: Case) -> None:
    message = msgspec.convert(case["message"], WRITTEN[case["message"]["type"]])
    frame = protobuf.encode(message)
    assert frame.binary
    assert frame.payload == frame_of(case)


@by_name([case for case in CASES if case.get("message", {}).get("type") == "operation-batch"])
def test_batches_are_what_the_reference_writes(case: Case) -> None:
    message = case["message"]
    chain = {"base": message.get("baseDeliverySequence"), "maximum": message.get("maxDeliverySequence", 0)}
    batch = DeliveryBatch(message["messageId"], logged(case), message["isFinal"], message["batchIndex"], **chain)
    frame = protobuf.encode_batch(batch)
    assert frame.binary
    assert frame.payload == frame_of(case)
    assert protobuf.encode_batch(batch) is frame


def logged(case: Case) -> list[DeliveryEntry]:
    """The operations of a batch as they stand in the log."""
    if case["name"] in NO_OPERATION:
        return [entry(1, body=compact(operation)) for operation in case["message"]["operations"]]
    read = text_codec.decode(compact(case["message"]))
    assert isinstance(read, say.OperationBatch)
    return [DeliveryEntry.of(LogEntry(number, operation)) for number, operation in enumerate(read.operations, 1)]


def compact(value: Any) -> bytes:
    """JSON text as JavaScript prints it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


@by_name(CASES)
def test_the_client_of_the_tests_writes_and_reads_as_a_stock_client(case: Case) -> None:
    if "message" in case:
        assert to_binary(case["message"]) == frame_of(case)
    if "decode_error" in case:
        with pytest.raises(ValueError, match=r"."):
            from_binary(frame_of(case))
    else:
        assert from_binary(frame_of(case)) == meant(case)


@pytest.mark.parametrize("path", sorted(WIRE.glob("protobuf-*.jsonl")), ids=lambda path: path.stem)
def test_it_does_so_in_recorded_traffic(path: Path) -> None:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    frames = [line for line in lines if line.get("format") == "binary"]
    assert frames
    for line in frames:
        assert to_binary(line["decoded"]) == frame_of(line)
        assert from_binary(frame_of(line)) == line["decoded"]


def test_the_vectors_are_there() -> None:
    assert len(CASES) == 63
    assert set(REFUSED) == {case["name"] for case in CASES if "decode_error" in case}
