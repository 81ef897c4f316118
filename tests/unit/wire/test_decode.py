"""Text frames become messages, or an event that says why not; nothing a peer writes raises (wire.md section 2)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import UNSET

from kora_daemon.protocol import messages as say
from kora_daemon.protocol.events import Malformed, Unknown
from kora_daemon.wire.json import decode
from tests.support.operations import batch_text, frame_text, wire_operation

MEMBERS: dict[str, dict[str, Any]] = {
    "handshake": {"nodeId": "n", "versionVector": {"n": 1}, "schemaVersion": 1},
    "operation-batch": {"operations": [], "isFinal": True, "batchIndex": 0},
    "acknowledgment": {"acknowledgedMessageId": "x", "lastSequenceNumber": 3},
    "error": {"code": "C", "message": "t", "retriable": False},
    "awareness-update": {"clientId": 1, "states": {"1": {"user": {}}, "2": None}},
    "yjs-doc-update": {"collection": "c", "recordId": "r", "field": "f", "update": "AA=="},
    "blob-chunk-request": {"requestId": "q", "hash": "h"},
    "blob-chunk-response": {"requestId": "q", "bytes": "AA=="},
    "blob-chunk-push": {"hash": "h", "bytes": "AA=="},
}
KINDS: dict[str, type[say.Message]] = {
    "handshake": say.Handshake,
    "operation-batch": say.OperationBatch,
    "acknowledgment": say.Acknowledgment,
    "error": say.ErrorMessage,
    "awareness-update": say.AwarenessUpdate,
    "yjs-doc-update": say.DocumentUpdate,
    "blob-chunk-request": say.BlobRequest,
    "blob-chunk-response": say.BlobResponse,
    "blob-chunk-push": say.BlobPush,
}
CHECKED = [
    ("handshake", "nodeId", [1, None, {}]),
    ("handshake", "versionVector", [1, None, [], "x"]),
    ("handshake", "schemaVersion", ["1", None, True, [], 10**400]),
    ("operation-batch", "operations", [None, {}, "x", 1]),
    ("operation-batch", "isFinal", [None, 1, "true"]),
    ("operation-batch", "batchIndex", [None, "0", True]),
    ("acknowledgment", "acknowledgedMessageId", [None, 1, []]),
    ("error", "code", [None, 1]),
    ("error", "message", [None, {}]),
    ("error", "retriable", [None, 0, "false"]),
    ("awareness-update", "clientId", [None, "1", True, {}]),
    ("awareness-update", "states", [None, [], "x", 1]),
    *(("yjs-doc-update", name, [None, 1, []]) for name in MEMBERS["yjs-doc-update"]),
    *(("blob-chunk-request", name, [None, 1]) for name in MEMBERS["blob-chunk-request"]),
    ("blob-chunk-response", "requestId", [None, 1]),
    ("blob-chunk-response", "bytes", [1, [], {}]),
    *(("blob-chunk-push", name, [None, 1]) for name in MEMBERS["blob-chunk-push"]),
]


def reason(text: bytes) -> str:
    """Why the frame is no message."""
    event = decode(text)
    assert isinstance(event, Malformed)
    assert event.error.code == "MALFORMED_MESSAGE"
    assert not event.error.retriable
    return str(event.error)


@pytest.mark.parametrize("kind", MEMBERS)
def test_every_message_is_read(kind: str) -> None:
    message = decode(frame_text(kind, **MEMBERS[kind]))
    assert isinstance(message, KINDS[kind])
    assert message.message_id == "m-1"


@pytest.mark.parametrize("kind", MEMBERS)
def test_unknown_members_are_passed_over(kind: str) -> None:
    plain, odd = frame_text(kind, **MEMBERS[kind]), frame_text(kind, **MEMBERS[kind], extra={"a": [1]}, size_bytes="x")
    read = decode(odd)
    assert isinstance(read, KINDS[kind])
    if kind not in ("operation-batch", "awareness-update"):
        assert read == decode(plain)


@pytest.mark.parametrize("kind", MEMBERS)
def test_half_a_character_among_unknown_members_is_no_harm(kind: str) -> None:
    assert isinstance(decode(frame_text(kind, **MEMBERS[kind], extra="\ud800")), KINDS[kind])


@pytest.mark.parametrize(("kind", "name", "values"), CHECKED, ids=lambda value: value if isinstance(value, str) else "")
def test_a_member_of_the_wrong_type_makes_the_message_malformed(kind: str, name: str, values: list[Any]) -> None:
    for value in values:
        assert reason(frame_text(kind, **(MEMBERS[kind] | {name: value})))


@pytest.mark.parametrize(("kind", "name", "values"), CHECKED, ids=lambda value: value if isinstance(value, str) else "")
def test_a_missing_member_makes_the_message_malformed(kind: str, name: str, values: list[Any]) -> None:
    del values
    members = {key: value for key, value in MEMBERS[kind].items() if key != name}
    if (kind, name) == ("blob-chunk-response", "bytes"):
        assert isinstance(decode(frame_text(kind, **members)), say.BlobResponse)
    else:
        assert reason(frame_text(kind, **members))


@pytest.mark.parametrize("kind", MEMBERS)
@pytest.mark.parametrize("value", [None, 5, [], "\ud800"], ids=repr)
def test_a_message_needs_an_id_of_whole_characters(kind: str, value: object) -> None:
    assert reason(frame_text(kind, **MEMBERS[kind], messageId=value))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"{",
        b"null",
        b"true",
        b"5",
        b'"handshake"',
        b"[]",
        b"{}",
        b'{"type":"error"}',
        b'{"messageId":"m"}',
        b'{"type":5,"messageId":"m"}',
        b'{"type":null,"messageId":"m"}',
        frame_text("error", **MEMBERS["error"]) + b"x",
        frame_text("error", **MEMBERS["error"]) * 2,
        b"\xef\xbb\xbf" + frame_text("error", **MEMBERS["error"]),
        b'{"type":"error","messageId":"m",}',
        b"{'type':'error'}",
        b'{"type":"error","messageId":"\x01"}',
        b'{"type":"error","messageId":"\\x41"}',
        b'{"type":"operation-batch","messageId":"m","operations":[NaN],"isFinal":true,"batchIndex":0}',
        b'{"type":"operation-batch","messageId":"m","operations":[],"isFinal":true,"batchIndex":Infinity}',
        b'{"type":"operation-batch","messageId":"m","operations":[],"isFinal":true,"batchIndex":-Infinity}',
        b'{"type":"operation-batch","messageId":"m","operations":[],"isFinal":true,"batchIndex":01}',
        b'{"type":"nonsense","messageId":"m","a":01}',
    ],
)
def test_what_is_no_message_is_malformed(text: bytes) -> None:
    assert reason(text)


def test_the_reason_is_short_whatever_came() -> None:
    assert len(reason(b'{"type":"error","messageId":"m","code":' + b"9" * 100_000 + b"}")) < 300
    assert len(reason(json.dumps({"type": "error", "messageId": "m", "x" * 100_000: 1}).encode())) < 300


@pytest.mark.parametrize("kind", ["heartbeat", "handshake-response", "operation-rejected", "", "Handshake"])
def test_a_type_that_means_nothing_is_unknown_not_malformed(kind: str) -> None:
    assert decode(frame_text(kind, anything=[1, 2, 3])) == Unknown(kind)


def test_the_name_of_an_unknown_type_is_cut() -> None:
    assert decode(frame_text("x" * 1_000)) == Unknown("x" * 40)


@pytest.mark.parametrize("text", [b"[" * 200_000, b'{"a":' * 200_000, b"[" * 200_000 + b"]" * 200_000])
def test_deep_nesting_is_malformed(text: bytes) -> None:
    assert reason(text)
    assert reason(b'{"type":"handshake","messageId":"m","extra":' + text + b"}")


def test_deep_nesting_inside_a_message_is_named() -> None:
    deep = b"[" * 200_000 + b"]" * 200_000
    assert "nested too deeply" in reason(b'{"type":"error","messageId":"m","extra":' + deep + b"}")


@pytest.mark.parametrize("digits", [400, 4_301, 100_000])
@pytest.mark.parametrize("kind", MEMBERS)
def test_enormous_numbers_never_raise(kind: str, digits: int) -> None:
    number = b"9" * digits
    for name in [*MEMBERS[kind], "extra", "sizeBytes", "lastDeliverySequence", "deliverySequence"]:
        text = frame_text(kind, **(MEMBERS[kind] | {name: "@"})).replace(b'"@"', number)
        assert isinstance(decode(text), say.Message | Malformed)


def test_a_handshake_keeps_optional_members_of_any_shape() -> None:
    optional = {
        "authToken": 5,
        "supportedWireFormats": "json",
        "syncScope": [1],
        "syncQueries": {"a": None},
        "deltaCursor": {},
        "lastDeliverySequence": "7",
    }
    message = decode(frame_text("handshake", **MEMBERS["handshake"], **optional))
    assert isinstance(message, say.Handshake)
    assert message.auth_token == 5
    assert message.supported_wire_formats == "json"
    assert message.sync_scope == [1]
    assert message.sync_queries == {"a": None}
    assert message.delta_cursor == {}
    assert message.last_delivery_sequence == "7"


def test_a_handshake_without_optional_members_has_none() -> None:
    message = decode(frame_text("handshake", **MEMBERS["handshake"]))
    assert isinstance(message, say.Handshake)
    assert message.last_delivery_sequence is None
    assert message.auth_token is None


def test_an_acknowledgment_may_carry_a_watermark() -> None:
    for members, watermark in (({}, UNSET), ({"deliverySequence": 7}, 7), ({"deliverySequence": "7"}, "7")):
        message = decode(frame_text("acknowledgment", **MEMBERS["acknowledgment"], **members))
        assert isinstance(message, say.Acknowledgment)
        assert message.delivery_sequence == watermark


def test_the_size_of_a_batch_is_the_size_of_its_frame() -> None:
    text = batch_text(wire_operation(), sizeBytes=5)
    message = decode(text)
    assert isinstance(message, say.OperationBatch)
    assert message.size_bytes == len(text)


def test_presence_keeps_its_exact_text() -> None:
    state = b'{"user": {"name":"\xc3\xa4", "n":1.50, "big":1e400}}'
    text = b'{"type":"awareness-update","messageId":"m","clientId":1,"states":{"1":' + state + b',"2": null}%s}'
    for more in (b"", b',"extra":"\\ud800"'):
        message = decode(text % more)
        assert isinstance(message, say.AwarenessUpdate)
        assert {name: bytes(raw) for name, raw in message.states.items()} == {"1": state, "2": b"null"}


@pytest.mark.parametrize(
    ("kind", "name"),
    [("handshake", "authToken"), ("handshake", "nodeId"), ("error", "message"), ("yjs-doc-update", "field")],
)
def test_half_a_character_where_it_would_have_to_be_kept_is_malformed(kind: str, name: str) -> None:
    assert "half a surrogate pair" in reason(frame_text(kind, **(MEMBERS[kind] | {name: "x\ud800"})))
