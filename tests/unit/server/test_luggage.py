"""What strangers may bring along."""

from __future__ import annotations

from kora_daemon.server.luggage import HAND_LUGGAGE_BYTES, Luggage, LuggageRoom


def test_a_little_always_fits() -> None:
    room = LuggageRoom(0)
    assert Luggage(room).fits(HAND_LUGGAGE_BYTES)
    assert not Luggage(room).fits(HAND_LUGGAGE_BYTES + 1)
    assert room.taken_bytes == 0


def test_more_fits_as_long_as_there_is_room() -> None:
    room = LuggageRoom(10_000_000)
    one, another = Luggage(room), Luggage(room)
    assert one.fits(4_000_000)
    assert one.fits(6_000_000)
    assert not another.fits(4_000_001)
    assert another.fits(4_000_000)
    assert one.fits(100)  # what was taken stays taken
    assert room.taken_bytes == 10_000_000
    one.leave()
    one.leave()
    assert room.taken_bytes == 4_000_000
    assert another.fits(10_000_000)
    another.leave()
    assert room.taken_bytes == 0
