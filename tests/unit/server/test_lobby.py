"""How many connections may wait until somebody knows them."""

from __future__ import annotations

from kora_daemon.server.lobby import Lobby


def test_without_limits_anybody_may_wait() -> None:
    lobby = Lobby()
    for number in range(1000):
        lobby.enter(number, "192.0.2.1")
    assert lobby.limit_reached("192.0.2.1") is None


def test_all_together_are_limited() -> None:
    lobby = Lobby(most=2)
    lobby.enter(1, "192.0.2.1")
    assert lobby.limit_reached("192.0.2.3") is None
    lobby.enter(2, "192.0.2.2")
    assert lobby.limit_reached("192.0.2.3") == "max_unauthenticated"
    lobby.leave(1)
    assert lobby.limit_reached("192.0.2.3") is None


def test_those_of_one_address_are_limited_and_do_not_keep_others_out() -> None:
    lobby = Lobby(most_per_address=2)
    lobby.enter(1, "192.0.2.1")
    lobby.enter(2, "192.0.2.1")
    assert lobby.limit_reached("192.0.2.1") == "max_unauthenticated_per_address"
    assert lobby.limit_reached("192.0.2.2") is None
    lobby.leave(2)
    lobby.leave(2)
    lobby.leave(3)
    assert lobby.limit_reached("192.0.2.1") is None


def test_an_ipv6_network_is_one_address() -> None:
    lobby = Lobby(most_per_address=1)
    lobby.enter(1, "2001:db8:0:1::1")
    assert lobby.limit_reached("2001:db8:0:1:ffff::2") is not None
    assert lobby.limit_reached("2001:db8:0:2::1") is None
    lobby.enter(2, "::ffff:192.0.2.1")
    assert lobby.limit_reached("192.0.2.1") is not None
    assert lobby.limit_reached("::ffff:192.0.2.2") is None


def test_what_is_no_address_counts_as_it_is_written() -> None:
    lobby = Lobby(most_per_address=1)
    lobby.enter(1, "unknown")
    assert lobby.limit_reached("unknown") is not None
    assert lobby.limit_reached("local") is None


def test_who_comes_without_an_address_shares_none() -> None:
    lobby = Lobby(most=3, most_per_address=1)
    for number in (1, 2, 3):
        assert lobby.limit_reached(None) is None
        lobby.enter(number, None)
    assert lobby.limit_reached(None) == "max_unauthenticated"
    lobby.leave(1)
    assert lobby.limit_reached(None) is None


def test_nothing_is_kept_of_those_who_have_left() -> None:
    lobby = Lobby(most_per_address=5)
    for number in range(10):
        lobby.enter(number, f"192.0.2.{number}")
    for number in range(10):
        lobby.leave(number)
    assert not lobby._from
    assert not lobby._waiting
