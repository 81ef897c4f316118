"""The little that is looked at before a message is handed in."""

from __future__ import annotations

import json

import pytest
from msgspec import UNSET

from kora_daemon.wire.frame import Frame
from kora_daemon.wire.glimpse import glimpse
from tests.support.protobuf import to_binary

BATCH = {"type": "operation-batch", "operations": [{"a": [1, {"b": "c"}]}], "batchIndex": 3, "isFinal": False}


def test_a_handshake_is_seen_with_its_token_and_watermark() -> None:
    seen = glimpse(Frame(b'{"nodeId":"a","type":"handshake","authToken":"t","lastDeliverySequence":0}'))
    assert seen is not None
    assert (seen.is_handshake, seen.is_upload) == (True, False)
    assert (seen.auth_token, seen.last_delivery_sequence) == ("t", 0)


def test_a_batch_is_seen_with_its_place() -> None:
    seen = glimpse(Frame(json.dumps(BATCH).encode()))
    assert seen is not None
    assert (seen.is_handshake, seen.is_upload) == (False, True)
    assert (seen.batch_index, seen.is_final, seen.total_batches) == (3, False, UNSET)


def test_what_is_missing_is_as_in_a_batch_of_a_stream() -> None:
    seen = glimpse(Frame(b'{"type":"operation-batch"}'))
    assert seen is not None
    assert (seen.batch_index, seen.is_final, seen.total_batches, seen.auth_token) == (0, True, UNSET, None)


def test_protobuf_is_seen_alike() -> None:
    hello = {"type": "handshake", "messageId": "h", "nodeId": "n", "schemaVersion": 1, "authToken": "t"}
    seen = glimpse(Frame(to_binary(hello), binary=True))
    assert seen is not None
    assert (seen.is_handshake, seen.auth_token) == (True, "t")
    batch = {"type": "operation-batch", "messageId": "b", "operations": [], "batchIndex": 3, "isFinal": False}
    seen = glimpse(Frame(to_binary(batch), binary=True))
    assert seen is not None
    assert (seen.is_upload, seen.batch_index, seen.is_final, seen.total_batches) == (True, 3, False, None)
    assert glimpse(Frame(b"\xff", binary=True)) is None


def test_javascript_s_json_is_seen_too() -> None:
    seen = glimpse(Frame(rb'{"type":"handshake","nodeId":"\ud800","lastDeliverySequence":1,"authToken":"x"}'))
    assert seen is not None
    assert (seen.is_handshake, seen.last_delivery_sequence, seen.auth_token) == (True, 1, "x")


@pytest.mark.parametrize("text", [b"", b"garbage", b"[]", b"null", b"{}", b'"handshake"', b"[" * 100_000, b"\xff"])
def test_what_is_no_message_is_nothing(text: bytes) -> None:
    assert glimpse(Frame(text)) is None


@pytest.mark.parametrize("value", [None, 7, [], {"type": "handshake"}, True])
def test_what_has_no_text_for_a_type_is_nothing_and_other_members_may_be_anything(value: object) -> None:
    assert glimpse(Frame(json.dumps({"type": value}).encode())) is None
    seen = glimpse(Frame(json.dumps({"type": "x", "batchIndex": value, "authToken": value}).encode()))
    assert seen is not None
    assert (seen.batch_index, seen.auth_token, seen.is_upload) == (value, value, False)


def test_a_number_too_long_for_python_hides_nothing_else() -> None:
    """The codec skips a member that it does not know; the token must not go unseen for it."""
    text = b'{"type":"handshake","totalBatches":%s,"isFinal":-%s,"authToken":"t"}' % (b"9" * 4_301, b"9" * 4_301)
    seen = glimpse(Frame(text))
    assert seen is not None
    assert (seen.is_handshake, seen.auth_token) == (True, "t")
    assert seen.total_batches == float("inf")
