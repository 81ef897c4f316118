"""What daemons on one PostgreSQL database hear of each other."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from kora_daemon.errors import StoreUnavailable
from kora_daemon.store.channel import Channel
from kora_daemon.store.postgres import PostgresStore
from tests.support.log import RECEIVED_AT_MS, append, operation, operations
from tests.support.postgres import server
from tests.support.records import fail_after

Opened = Callable[[], tuple[PostgresStore, Channel]]


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Makes stores, each with an open channel."""
    name = server().database()
    stores: list[PostgresStore] = []
    channels: list[Channel] = []

    def open_one() -> tuple[PostgresStore, Channel]:
        stores.append(PostgresStore(server().url(name)))
        stores[-1].open()
        channels.append(stores[-1].channel())
        channels[-1].open()
        return stores[-1], channels[-1]

    yield open_one
    for channel in channels:
        channel.close()
    for store in stores:
        store.close()


def heard(channel: Channel, words: int = 0, frontier: int | None = None) -> tuple[int | None, list[bytes]]:
    """What comes until there are so many words and such a frontier."""
    found: list[bytes] = []
    largest: int | None = None
    deadline = time.monotonic() + 10
    while len(found) < words or largest != frontier:
        assert time.monotonic() < deadline, (largest, found)
        select.select([channel.fileno()], [], [], 1)
        more, said = channel.drain()
        largest = more if largest is None else max(largest, more or 0)
        found += said
    return largest, found


def test_commits_of_others_are_heard_the_largest_sequence_of_each(opened: Opened) -> None:
    (_, listening), (store, _) = opened(), opened()
    assert listening.drain() == (None, [])
    append(store, *operations(range(1, 6)))
    assert heard(listening, frontier=5) == (5, [])
    append(store, operation(6))
    append(store, operation(7))
    assert heard(listening, frontier=7) == (7, [])
    assert listening.drain() == (None, [])


def test_a_write_that_adds_nothing_is_not_heard(opened: Opened) -> None:
    (_, listening), (store, talking) = opened(), opened()
    store.probe()
    with store.transaction() as tx:
        tx.known_ids(["x"])
    fail_after(store, lambda tx: tx.append([operation(1)], RECEIVED_AT_MS))
    talking.send(b"{}")
    assert heard(listening, words=1) == (None, [b"{}"])


def test_a_new_log_is_heard(opened: Opened) -> None:
    (_, listening), (store, _) = opened(), opened()
    append(store, *operations(range(1, 6)))
    assert heard(listening, frontier=5) == (5, [])
    with store.transaction() as tx:
        tx.replace_log({})
    assert heard(listening, frontier=6) == (6, [])


def test_own_commits_are_no_news(opened: Opened) -> None:
    store, channel = opened()
    append(store, operation(1))
    channel.send(b"{}")
    assert heard(channel, words=1) == (None, [b"{}"])


@pytest.mark.parametrize("size", [0, 7_000, 7_900, 7_901, 8_000, 1_000_000])
def test_words_of_any_length_are_heard(opened: Opened, size: int) -> None:
    (_, listening), (_, talking) = opened(), opened()
    word = b'{"x":"%s\xc3\xa9\\u0000"}' % (b"x" * max(0, size - 20))
    talking.send(word)
    talking.send(b"{}")
    assert heard(listening, words=2) == (None, [word, b"{}"])


def test_a_lost_connection_is_told_and_made_again(opened: Opened) -> None:
    (_, listening), (store, talking) = opened(), opened()
    talking.send(b"{}")
    assert heard(listening, words=1) == (None, [b"{}"])
    with server().connect(store._connections.session._parameters()["dbname"]) as outside:
        outside.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name ~ 'kora'")
    with pytest.raises(StoreUnavailable):
        heard(listening, words=1)
    listening.open()
    with pytest.raises(StoreUnavailable):
        talking.send(b"{}")
    talking.send(b'{"a":1}')
    append(store, operation(1))
    assert heard(listening, words=1, frontier=1) == (1, [b'{"a":1}'])


def test_who_speaks_is_not_interrupted_by_listening_anew(opened: Opened) -> None:
    (_, talking), (_, listening) = opened(), opened()
    said = [str(number).encode() + b"!" for number in range(500)]
    with ThreadPoolExecutor(1) as speaker:
        speaking = speaker.submit(lambda: [talking.send(word) for word in said])
        while not speaking.done():
            talking.open()
        speaking.result()
    assert heard(listening, words=len(said)) == (None, said)


def test_a_closed_channel_is_unavailable(opened: Opened) -> None:
    _, channel = opened()
    channel.close()
    channel.close()
    for call in (channel.fileno, channel.drain):
        with pytest.raises(StoreUnavailable):
            call()
