"""Binary frames become messages, or an event that says why not; nothing a peer writes raises (wire.md section 8)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import UNSET

from kora_daemon.model.delivery import DeliveryBatch, DeliveryEntry
from kora_daemon.model.json_scan import MAX_NESTING
from kora_daemon.model.operation import Operation, encode_operation
from kora_daemon.model.outcome import Rejection
from kora_daemon.protocol import messages as say
from kora_daemon.protocol.events import Malformed, Unknown
from kora_daemon.wire import json as text_codec
from kora_daemon.wire.formats import BINARY, TEXT, SharedMessage
from kora_daemon.wire.protobuf import decode, encode, encode_batch
from tests.support.operations import batch_text, entry, wire_operation
from tests.support.protobuf import chunk, from_binary, packed_operation, to_binary, varint

DATA_JSON, PREVIOUS_DATA_JSON, HAS_DATA, HAS_PREVIOUS_DATA = 6, 7, 12, 13
HEAD = chunk(1, b"operation-batch") + chunk(2, b"m-1")
BARE = {"data": None, "previousData": None}


def batch(*operations: dict[str, Any]) -> bytes:
    return to_binary(
        {"type": "operation-batch", "messageId": "m-1", "operations": operations, "isFinal": True, "batchIndex": 0}
    )


def with_data(text: bytes, number: int = DATA_JSON) -> bytes:
    """A batch of three, whose second has this text for its data."""
    flag = HAS_DATA if number == DATA_JSON else HAS_PREVIOUS_DATA
    odd = packed_operation(wire_operation(2, **BARE)) + chunk(number, text) + varint(flag << 3) + varint(1)
    return batch(wire_operation(1)) + chunk(11, odd) + batch(wire_operation(3))


def refused(frame: bytes) -> list[Rejection]:
    """What is refused of a batch of three, of which the first and the last are well."""
    read = decode(frame)
    assert isinstance(read, say.DamagedBatch)
    assert [operation.id for operation in read.operations] == ["op-1", "op-3"]
    return read.malformed


def the_second(frame: bytes) -> Operation:
    read = decode(frame)
    assert isinstance(read, say.OperationBatch)
    assert not isinstance(read, say.DamagedBatch)
    return read.operations[1]


class TestFrames:
    """What is no envelope, or not one of ours."""

    @pytest.mark.parametrize(
        "frame",
        [
            b"\x0a",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
            b"\x0a\x05ab",
            b"\x0a\x02\xff\xfe",
            b"\x0a\x03\xed\xa0\x80",
            b"\x78" + b"\xff" * 11,
            b"\x00\x00",
            b"\x0b" * 200_000,
            b"\x22\x02\x0a\x05",
            b"\x22\x03\x0a\x01\xff",
            b'{"type":"handshake","messageId":"m"}',
            b"\xff" * 1_000,
        ],
        ids=repr,
    )
    def test_what_is_no_envelope_is_malformed(self, frame: bytes) -> None:
        read = decode(frame)
        assert isinstance(read, Malformed)
        assert (read.error.code, read.error.retriable) == ("MALFORMED_MESSAGE", False)
        assert len(str(read.error)) < 300

    @pytest.mark.parametrize("kind", ["heartbeat", "awareness-update", "yjs-doc-update", "handshake-response"])
    def test_a_type_that_means_nothing_in_this_form_is_passed_over(self, kind: str) -> None:
        assert decode(chunk(1, kind.encode()) + chunk(2, b"m-1")) == Unknown(kind)

    def test_the_name_of_an_unknown_type_is_cut(self) -> None:
        assert decode(chunk(1, b"x" * 1_000)) == Unknown("x" * 40)

    def test_fields_of_another_type_than_theirs_are_passed_over(self) -> None:
        frame = chunk(1, b"acknowledgment") + chunk(15, b"7") + varint(14 << 3) + varint(5)
        assert decode(frame) == say.Acknowledgment("", "", 0, UNSET)

    def test_a_number_beyond_its_range_is_cut_as_a_stock_client_does(self) -> None:
        frame = chunk(1, b"handshake") + varint(5 << 3) + varint(2**40 + 7)
        read = decode(frame)
        assert isinstance(read, say.Handshake)
        assert read.schema_version == 7


class TestBatches:
    """One odd operation costs nobody else anything."""

    def test_a_batch_of_too_many_is_not_looked_into(self) -> None:
        read = decode(HEAD + chunk(11, b"\xff") * 11, max_operations=10)
        assert isinstance(read, Malformed)
        assert read.error.code == "BATCH_TOO_LARGE"
        assert isinstance(decode(HEAD + chunk(11, b"\xff") * 10, max_operations=10), say.DamagedBatch)

    @pytest.mark.parametrize("content", [b"\x0a", b"\x0a\x05ab", b"\xff" * 20, b"\x0a\x02\xff\xfe", b"\x0b" * 100_000])
    def test_what_is_no_operation_at_all_is_refused_alone(self, content: bytes) -> None:
        frame = batch(wire_operation(1)) + chunk(11, content) + batch(wire_operation(3))
        assert [(one.operation_id, one.code) for one in refused(frame)] == [("", "INVALID_OPERATION")]
        assert "no protobuf" in refused(frame)[0].message

    @pytest.mark.parametrize(
        ("changes", "problem"),
        [
            ({"id": ""}, "id is the text"),
            ({"nodeId": "x" * 256}, "nodeId is the text"),
            ({"type": "upsert"}, "type is the text"),
            ({"sequenceNumber": -1}, "sequenceNumber is -1"),
            ({"sequenceNumber": 2**53}, "sequenceNumber is 9007199254740992"),
            ({"schemaVersion": 0}, "schemaVersion is 0"),
            ({"schemaVersion": -1}, "schemaVersion is -1"),
            ({"causalDeps": ["a", ""]}, "causalDeps[1] is the text"),
            ({"timestamp": {"wallTime": 1, "logical": 0, "nodeId": ""}}, "timestamp.nodeId is the text"),
            ({"transactionId": 5}, "transactionId is 5"),
            ({"mutationName": [1]}, "mutationName is a list"),
            ({"atomicOps": {"n": {"type": "increment", "value": "1"}}}, "atomicOps"),
            ({"atomicOps": [1]}, "atomicOps is a list"),
        ],
    )
    def test_an_odd_operation_is_refused_alone_and_by_name(self, changes: dict[str, Any], problem: str) -> None:
        frame = batch(wire_operation(1), wire_operation(2, **changes), wire_operation(3))
        [rejection] = refused(frame)
        assert rejection.message.startswith(f"The operation is malformed: {problem}")
        assert (rejection.code, rejection.retriable) == ("INVALID_OPERATION", False)
        assert (rejection.operation_id, rejection.record_id) == (changes.get("id", "op-2"), "rec-2")

    @pytest.mark.parametrize("number", [DATA_JSON, PREVIOUS_DATA_JSON])
    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"{",
            b"null",
            b"5",
            b"[]",
            b'{"a":1}{"b":2}',
            b'{"a":1},"id":"other","data":{}',
            b'{"a":NaN}',
            b'{"a":"\\ud800',
            b'{"a":' * (MAX_NESTING + 1) + b"1" + b"}" * (MAX_NESTING + 1),
            b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
            b'{"a":%s}' % (b"9" * 5_000),
        ],
        ids=lambda text: repr(text)[:40] if isinstance(text, bytes) else "",
    )
    def test_data_that_are_no_object_cost_their_operation_only(self, text: bytes, number: int) -> None:
        [rejection] = refused(with_data(text, number))
        assert (rejection.operation_id, rejection.code) == ("op-2", "INVALID_OPERATION")
        assert len(rejection.message) < 300

    @pytest.mark.parametrize(("last", "acknowledged"), [(7, 7), (-3, 0)])
    def test_the_last_sequence_number_is_acknowledged_even_of_a_refused_operation(
        self, last: int, acknowledged: int
    ) -> None:
        read = decode(batch(wire_operation(1), wire_operation(2, id="", sequenceNumber=last)))
        assert isinstance(read, say.DamagedBatch)
        assert read.last_sequence_number == acknowledged

    def test_a_clock_reading_out_of_range_is_judged_later(self) -> None:
        timestamp = {"wallTime": -5, "logical": 2**32 - 1, "nodeId": "n"}
        read = the_second(batch(wire_operation(1), wire_operation(2, timestamp=timestamp)))
        assert (read.timestamp.wall_time, read.timestamp.logical) == (-5, 2**32 - 1)

    def test_an_operation_is_measured_as_its_text_would_be(self) -> None:
        operations = [wire_operation(number, causalDeps=["x"] * number) for number in range(1, 20)]
        read = decode(batch(*operations))
        assert isinstance(read, say.OperationBatch)
        assert read.size_bytes >= sum(len(encode_operation(one)) for one in read.operations)


class TestData:
    """What rides in the text of the data is taken out of it; the rest stays as it was written."""

    @pytest.mark.parametrize(
        "text",
        [
            b'{"a":1.50,"b":1e400}',
            b'{"b":"\\ud800"}',
            b'{ "a" : [ 1 ] }',
            b'{"a":"\xc3\xa4\\u00e4"}',
            b'{"a":{"__kora_tx_id__":1}}',
        ],
    )
    def test_the_text_is_kept_as_it_is(self, text: bytes) -> None:
        assert bytes(the_second(with_data(text)).data) == text
        assert bytes(the_second(with_data(text, PREVIOUS_DATA_JSON)).previous_data) == text
        assert bytes(the_second(with_data(b"\n " + text + b" \t")).data) == text

    @pytest.mark.parametrize("more", [b"", b',"c":"\\udfff"'])
    def test_what_rides_in_it_is_taken_out_wherever_it_stands(self, more: bytes) -> None:
        riders = b'"__kora_mutation__":"m","a\\n":1.50,"__kora_atomic_ops__":{"n":{"type":"max","value":1.0}}'
        read = the_second(with_data(b'{%s,"__kora_tx_id__":"t"%s}' % (riders, more)))
        assert bytes(read.data) == b'{"a\\n":1.50%s}' % more
        assert bytes(read.atomic_ops) == b'{"n":{"type":"max","value":1.0}}'  # type: ignore[arg-type]
        assert (read.transaction_id, read.mutation_name) == ("t", "m")

    def test_riders_that_say_nothing_are_unset(self) -> None:
        riders = b'"__kora_mutation__":null,"__kora_atomic_ops__":{},"__kora_tx_id__":null'
        read = the_second(with_data(b'{"a":1,%s}' % riders))
        assert (read.atomic_ops, read.transaction_id, read.mutation_name) == (UNSET, UNSET, UNSET)

    def test_data_without_has_data_are_only_riders(self) -> None:
        odd = packed_operation(wire_operation(2, **BARE)) + chunk(DATA_JSON, b'{"a":1,"__kora_tx_id__":"t"}')
        read = decode(HEAD + chunk(11, odd))
        assert isinstance(read, say.OperationBatch)
        assert (bytes(read.operations[0].data), read.operations[0].transaction_id) == (b"null", "t")


def sent(body: dict[str, Any] | bytes) -> dict[str, Any]:
    """What a client reads of an operation of the log."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    (operation,) = from_binary(encode_batch(DeliveryBatch("m", [entry(1, body=text)], True, 0)).payload)["operations"]
    return dict(operation)


class TestSending:
    """What goes out."""

    def test_presence_and_document_updates_go_out_as_text(self) -> None:
        for message in (say.AwarenessUpdate("m", 1, {}), say.DocumentUpdate("m", "c", "r", "f", "AA==")):
            assert encode(message) == text_codec.encode(message)
            assert not encode(message).binary

    def test_numbers_without_a_place_do_not_keep_an_operation_from_being_sent(self) -> None:
        timestamp = {"wallTime": 2**63 - 1, "logical": 2**40, "nodeId": "n"}
        heard = sent(wire_operation(schemaVersion=2**53 - 1, timestamp=timestamp))
        assert heard["schemaVersion"] == 2**31 - 1
        assert heard["timestamp"] == {"wallTime": 2**63 - 1, "logical": 2**32 - 1, "nodeId": "n"}

    def test_halves_of_characters_arrive(self) -> None:
        assert sent(wire_operation(data={"a": "\ud800"})) == wire_operation(data={"a": "\ud800"})

    def test_names_that_nobody_could_upload_arrive(self) -> None:
        assert sent(wire_operation(nodeId="x" * 300)) == wire_operation(nodeId="x" * 300)

    def test_space_between_members_is_no_harm(self) -> None:
        body = batch_text(wire_operation(data={}, transactionId="t")).replace(b'"data": {}', b'"data": { }')
        read = text_codec.decode(body)
        assert isinstance(read, say.OperationBatch)
        assert sent(encode_operation(read.operations[0]))["transactionId"] == "t"

    def test_a_message_for_many_is_encoded_once_for_each_form(self) -> None:
        shared = SharedMessage(say.BlobRequest("m", "q", "h"))
        assert shared.frames == {}
        assert shared.frame(TEXT) is shared.frame(TEXT)
        assert shared.frame(BINARY) is shared.frame(BINARY)
        assert json.loads(shared.frame(TEXT).payload) == from_binary(shared.frame(BINARY).payload)

    def test_an_operation_is_packed_once_and_only_for_those_who_read_it_so(self) -> None:
        logged = DeliveryEntry(1, "op-1", "node-a", "todos", json.dumps(wire_operation()).encode())
        first, second = DeliveryBatch("a", [logged], True, 0), DeliveryBatch("b", [logged], True, 0, base=0, maximum=1)
        text_codec.encode_batch(first)
        assert logged.packed is None
        encode_batch(first)
        kept = logged.packed
        assert kept is not None
        frame = encode_batch(second)
        assert logged.packed is kept
        assert encode_batch(second) is frame
        assert set(first.frames) == {"json", "protobuf"}
