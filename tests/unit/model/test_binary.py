"""Forms of bytes that the vectors do not show."""

from __future__ import annotations

import pytest

from kora_daemon.model.binary import MalformedBytes, decode_bytes, is_blob_reference, is_index_bytes


def test_bytes_in_memory_stand_for_themselves() -> None:
    assert decode_bytes(b"\x00\xff") == b"\x00\xff"


def test_padding_and_an_incomplete_digit_are_dropped() -> None:
    for tag in ("$koraBytes", "__kora_bytes__"):
        assert decode_bytes({tag: "AQIDB==="}) == b"\x01\x02\x03"


@pytest.mark.parametrize("text", ["AQ ID", "AQI-", "AQ=ID", "é"])
def test_other_characters_are_no_base64(text: str) -> None:
    with pytest.raises(MalformedBytes, match="no base64"):
        decode_bytes({"$koraBytes": text})


def test_a_huge_index_makes_no_huge_bytes() -> None:
    with pytest.raises(MalformedBytes):
        decode_bytes({"200000000": 1})


def test_indexes_count_by_key_not_by_position() -> None:
    assert decode_bytes({"1": 8, "0": 7}) == b"\x07\x08"


@pytest.mark.parametrize("value", [{"0": True}, {"0": -1}, {"00": 1}, {"0": None}, [], [256], "01", None])
def test_what_only_looks_like_indexed_bytes(value: object) -> None:
    assert not is_index_bytes(value)


def test_a_null_name_makes_a_blob_reference_invalid() -> None:
    reference = {"hash": "a" * 64, "size": 1.0}
    assert is_blob_reference(reference)
    assert not is_blob_reference(reference | {"filename": None})
    assert not is_blob_reference(reference | {"size": True})
