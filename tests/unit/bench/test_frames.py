"""Frames of a server in pieces of any size, and frames of ours as a server reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kora_daemon.bench.frames import PING, BrokenFrame, FrameReader, masked_frame
from kora_daemon.server.framing import CONTINUATION, TEXT, FrameParser, frame_bytes, header
from kora_daemon.wire.frame import Frame

SMALL = st.lists(st.sampled_from([b"", b"a", b"b" * 125, b"c" * 126]), max_size=5)
LARGE = st.lists(st.sampled_from([b"c" * 126, b"d" * 65_535, b"e" * 65_536]), max_size=4)


@given(st.tuples(SMALL, st.integers(1, 300)) | st.tuples(LARGE, st.integers(20_000, 70_000)))
def test_messages_come_whole_however_they_are_cut(drawn: tuple[list[bytes], int]) -> None:
    payloads, size = drawn
    wire = b"".join(frame_bytes(Frame(one)) for one in payloads)
    reader = FrameReader()
    heard = [one for start in range(0, len(wire), size) for one in reader.feed(wire[start : start + size])]
    assert heard == [(TEXT, one) for one in payloads]


def test_fragments_are_put_together_and_control_frames_may_come_between() -> None:
    first = bytes((TEXT, 2)) + b"ab"
    ping = header(PING, 1) + b"!"
    last = header(CONTINUATION, 1) + b"c"
    assert list(FrameReader().feed(first + ping + last)) == [(PING, b"!"), (TEXT, b"abc")]


@pytest.mark.parametrize("wire", [masked_frame(b"a client's"), b"\xc1\x00"], ids=["masked", "reserved"])
def test_what_no_server_may_send_is_refused(wire: bytes) -> None:
    with pytest.raises(BrokenFrame):
        list(FrameReader().feed(wire))


@pytest.mark.parametrize("size", [0, 3, 126, 70_000])
def test_a_server_reads_what_is_sent(size: int) -> None:
    parser = FrameParser(100_000)
    parser.feed(masked_frame(b"x" * size))
    found = parser.next()
    assert isinstance(found, Frame)
    assert found.payload == b"x" * size
