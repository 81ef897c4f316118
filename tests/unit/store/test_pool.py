"""Connections that many threads share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import pytest

from kora_daemon.store.pool import ConnectionPool


class Line:
    """A connection that remembers whether it was closed."""

    def __init__(self) -> None:
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


def pool_of(size: int) -> tuple[ConnectionPool[Line], list[Line]]:
    made: list[Line] = []

    def connect() -> Line:
        made.append(Line())
        return made[-1]

    return ConnectionPool(size, connect), made


def test_a_connection_is_made_when_needed_and_used_again() -> None:
    pool, made = pool_of(2)
    assert made == []
    with pool.borrow() as first:
        pass
    with pool.borrow() as second:
        assert second is first
    assert len(made) == 1


def test_two_borrowers_get_two_connections() -> None:
    pool, made = pool_of(2)
    with pool.borrow() as one, pool.borrow() as other:
        assert one is not other
    assert len(made) == 2


def test_a_borrower_beyond_the_size_waits_for_a_connection() -> None:
    pool, made = pool_of(1)
    asked, held = Event(), Event()

    def borrow() -> Line:
        asked.set()
        with pool.borrow() as line:
            assert held.is_set()
            return line

    with ThreadPoolExecutor(1) as thread:
        with pool.borrow() as line:
            second = thread.submit(borrow)
            asked.wait()
            held.set()
        assert second.result(timeout=10) is line
    assert len(made) == 1


def test_never_more_connections_than_the_size() -> None:
    pool, made = pool_of(3)
    together = Barrier(3)

    def borrow() -> None:
        for _ in range(4):
            with pool.borrow():
                together.wait(timeout=10)

    with ThreadPoolExecutor(3) as threads:
        for done in [threads.submit(borrow) for _ in range(3)]:
            done.result(timeout=30)
    assert len(made) == 3


def test_a_connection_is_not_used_again_after_an_exception() -> None:
    pool, made = pool_of(1)
    with pytest.raises(KeyError), pool.borrow():
        raise KeyError
    assert made[0].is_closed
    with pool.borrow() as line:
        assert line is not made[0]


def test_a_connection_that_can_not_be_made_does_not_use_up_the_pool() -> None:
    def refuse() -> Line:
        raise OSError

    pool: ConnectionPool[Line] = ConnectionPool(1, refuse)
    for _ in range(3):
        with pytest.raises(OSError), pool.borrow():  # noqa: PT011  # the plain one is meant
            pass


def test_draining_closes_idle_connections_at_once_and_lent_ones_afterwards() -> None:
    pool, _ = pool_of(2)
    with pool.borrow() as lent:
        with pool.borrow() as idle:
            pass
        pool.drain()
        assert idle.is_closed
        assert not lent.is_closed
    assert lent.is_closed
    with pool.borrow() as fresh:
        assert not fresh.is_closed
