"""The parts that the manifest of a large blob lists. Its bytes are those that somebody has pushed: any."""

from __future__ import annotations

import json

import pytest

from kora_daemon.materialization.blobs import listed_parts

PART = "0" * 64


def test_parts_are_listed_once_and_only_if_they_are_hashes() -> None:
    assert listed_parts(json.dumps({"chunkHashes": [PART, "x", PART, "1" * 64]}).encode()) == [PART, "1" * 64]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"chunkHashes":["\xff"]}',
        b'{"\xff":1}',
        b'{"chunkHashes":["\\ud800"]}',
        b'{"chunkHashes":1}',
        b'{"chunkHashes":' + b"[" * 100_000,
        b'{"a":' + b"[" * 100_000,
    ],
)
def test_what_is_no_manifest_lists_nothing(content: bytes) -> None:
    assert listed_parts(content) == []
