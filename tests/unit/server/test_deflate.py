"""permessage-deflate: which offers are taken and how they are answered, and messages in and out."""

from __future__ import annotations

import os
import tracemalloc
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.extensions import PerMessageDeflate

from kora_daemon.server.deflate import Compression, agree, deflate, inflate

ANSWER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
FULL_WINDOW = ANSWER + "; server_max_window_bits=15"
TAIL = b"\x00\x00\xff\xff"


def answer(offers: str) -> str | None:
    agreement = agree(offers, Compression())
    return None if agreement is None else agreement.answer


@pytest.mark.parametrize(
    ("offers", "expected"),
    [
        ("permessage-deflate; client_max_window_bits", ANSWER),
        ("permessage-deflate", ANSWER),
        ("permessage-deflate;server_no_context_takeover;client_no_context_takeover", ANSWER),
        ("permessage-deflate; client_max_window_bits=15; server_max_window_bits=15", FULL_WINDOW),
        ("permessage-deflate; client_max_window_bits=8", ANSWER),
        ('permessage-deflate; server_max_window_bits="15"; client_max_window_bits="9"', FULL_WINDOW),
        ("  permessage-deflate ;\tserver_max_window_bits = 15 ", FULL_WINDOW),
        ("x-webkit-deflate-frame, permessage-deflate; client_max_window_bits", ANSWER),
        ("permessage-deflate; server_max_window_bits=10, permessage-deflate", ANSWER),
        ("permessage-deflate, permessage-deflate; server_max_window_bits=15", ANSWER),
    ],
    ids=[
        "Chrome, Safari, ws",
        "Firefox, OkHttp",
        "no context takeover",
        "wsproto",
        "small window of the client",
        "quoted values",
        "white space",
        "behind another extension",
        "second choice",
        "first choice",
    ],
)
def test_an_offer_is_taken(offers: str, expected: str) -> None:
    assert answer(offers) == expected


@pytest.mark.parametrize(
    "offers",
    [
        "",
        ",",
        ";",
        ", ;=,;;,",
        "permessage-bzip2",
        "permessage-deflate-2",
        "permessage-deflate;",
        "permessage-deflate; =",
        "permessage-deflate; 15",
        "permessage-deflate; window=15",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=",
        'permessage-deflate; server_max_window_bits="',
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=015",
        "permessage-deflate; server_max_window_bits=-15",
        "permessage-deflate; server_max_window_bits=٩",
        "permessage-deflate; server_max_window_bits=14",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=1e1",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=15",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; client_no_context_takeover=",
    ],
)
def test_an_offer_is_declined(offers: str) -> None:
    assert answer(offers) is None


_PIECES = st.sampled_from(
    ["permessage-deflate", "server_max_window_bits", "client_max_window_bits", "server_no_context_takeover",
     ",", ";", "=", '"', "15", "8", " ", "x"]
)  # fmt: skip


@given(st.one_of(st.text(max_size=50), st.lists(_PIECES, max_size=12).map("".join)))
def test_whatever_is_offered_a_client_can_live_with_the_answer(offers: str) -> None:
    found = answer(offers)
    if found is not None:
        client = PerMessageDeflate()
        client.finalize(found)
        assert client.server_no_context_takeover
        assert client.client_no_context_takeover
        assert client.server_max_window_bits == client.client_max_window_bits == 15
        assert "server_max_window_bits" in offers or "server_max_window_bits" not in found


class TestDeflate:
    @given(st.one_of(st.binary(max_size=2_000), st.text(max_size=200).map(lambda text: text.encode() * 20)))
    def test_any_inflater_gets_the_payload_back(self, payload: bytes) -> None:
        data = deflate(payload)
        if data is not None:
            assert len(data) < len(payload)
            assert zlib.decompressobj(-15).decompress(data + TAIL) == payload
            assert inflate(data, len(payload) + 1) == payload

    @pytest.mark.parametrize("size", [300, 40_000, 65_536, 300_000, 1 << 20])
    def test_text_shrinks(self, size: int) -> None:
        payload = b"".join(b'{"n":%d},' % number for number in range(size // 7))[:size]
        data = deflate(payload)
        assert data is not None
        assert len(data) < size / 2
        assert zlib.decompressobj(-15).decompress(data + TAIL) == payload

    @pytest.mark.parametrize("payload", [b"", b"x", os.urandom(5_000), b"x" * ((1 << 20) + 1)])
    def test_what_does_not_shrink_or_would_take_long_is_left_alone(self, payload: bytes) -> None:
        assert deflate(payload) is None


class TestInflate:
    @pytest.mark.parametrize(
        ("data", "payload"),
        [
            ("f248cdc9c90700", b"Hello"),
            ("000500faff48656c6c6f00", b"Hello"),
            ("f348cdc9c9070000", b"Hello"),
            ("f348cdc9c90700", b"Hello"),
            ("f24805000000ffffcac9c90700", b"Hello"),
            ("00", b""),
            ("", b""),
        ],
        ids=["one block", "not compressed", "final block", "final, unpadded", "two blocks", "nothing", "no byte"],
    )
    def test_examples_of_the_standard(self, data: str, payload: bytes) -> None:
        assert inflate(bytes.fromhex(data), 100) == payload

    @pytest.mark.parametrize(
        "data",
        [
            b"\xff" * 20,
            b"\x07",
            b"\xf2\x48\xcd\xff\xff\xff\xff\xff",
            bytes.fromhex("f348cdc9c90700") * 2,
            bytes.fromhex("f348cdc9c90700") + b"\x01",
            b"\x03\x00" * 1_000,
        ],
    )
    def test_garbage_and_streams_behind_the_first_are_refused(self, data: bytes) -> None:
        with pytest.raises(zlib.error):
            inflate(data, 100)

    @pytest.mark.parametrize("filler", [b"\0", b"ab"])
    def test_a_bomb_goes_off_within_its_bounds(self, filler: bytes) -> None:
        deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
        bomb = b"".join([deflater.compress(filler * (1 << 20)) for _ in range(64)])
        bomb += deflater.flush(zlib.Z_SYNC_FLUSH)[:-4]
        tracemalloc.start()
        assert len(inflate(bomb, 1_000_000)) == 1_000_000
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4_000_000

    @given(st.binary(max_size=300))
    def test_noise_is_refused_or_stays_small(self, noise: bytes) -> None:
        with suppress(zlib.error):
            assert len(inflate(noise, 1_000)) <= 1_000
