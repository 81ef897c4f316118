"""One task that looks which sockets have something to read."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from kora_daemon.server import lookout as module
from kora_daemon.server.lookout import Lookout

Socket = trio.socket.SocketType


@asynccontextmanager
async def looking() -> AsyncIterator[Lookout]:
    lookout = Lookout()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lookout.run)
        await trio.testing.wait_all_tasks_blocked()
        yield lookout
        nursery.cancel_scope.cancel()


def reading(sock: Socket, into: list[bytes], until: bytes) -> Callable[[], bytes | None]:
    def look() -> bytes | None:
        into.append(os.read(sock.fileno(), 100))
        return into[-1] if into[-1] == until else None

    return look


async def test_whoever_watches_is_called_until_it_has_found_what_it_wants() -> None:
    ours, theirs = trio.socket.socketpair()
    with ours, theirs:
        heard: list[bytes] = []
        async with looking() as lookout, trio.open_nursery() as nursery:
            nursery.start_soon(lookout.watch, ours, reading(ours, heard, b"last"))
            for word in (b"one", b"two", b"last"):
                await theirs.send(word)
                while not heard or heard[-1] != word:
                    await trio.lowlevel.checkpoint()
        assert heard == [b"one", b"two", b"last"]


async def test_many_at_once_are_all_heard() -> None:
    pairs = [trio.socket.socketpair() for _ in range(200)]
    found: list[bytes | None] = []
    async with looking() as lookout:

        async def watch(sock: Socket) -> None:
            found.append(await lookout.watch(sock, lambda: os.read(sock.fileno(), 100)))

        async with trio.open_nursery() as nursery:
            for number, (ours, theirs) in enumerate(pairs):
                nursery.start_soon(watch, ours)
                await theirs.send(str(number).encode())
    for ours, theirs in pairs:
        ours.close()
        theirs.close()
    assert sorted(found, key=lambda one: int(one or b"")) == [str(number).encode() for number in range(200)]


async def test_what_goes_wrong_for_one_is_its_own_trouble() -> None:
    ours, theirs = trio.socket.socketpair()
    other, their_other = trio.socket.socketpair()
    with ours, theirs, other, their_other:
        heard: list[bytes] = []
        async with looking() as lookout, trio.open_nursery() as nursery:
            nursery.start_soon(lookout.watch, other, reading(other, heard, b"fine"))
            await theirs.send(b"x")
            with pytest.raises(ZeroDivisionError):
                await lookout.watch(ours, lambda: 1 // 0)
            await their_other.send(b"fine")
        assert heard == [b"fine"]


async def test_a_socket_that_is_about_to_be_closed_is_watched_no_more_and_its_number_is_free() -> None:
    ours, theirs = trio.socket.socketpair()
    found: list[object] = []
    async with looking() as lookout:

        async def watch() -> None:
            found.append(await lookout.watch(ours, lambda: b"anything"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await trio.testing.wait_all_tasks_blocked()
            number = ours.fileno()
            lookout.leave(ours)
            ours.close()
            again, their_end = trio.socket.socketpair()
            assert number in (again.fileno(), their_end.fileno())
            await their_end.send(b"new")
            await again.send(b"new")
            for sock in (again, their_end):
                assert await lookout.watch(sock, lambda sock=sock: os.read(sock.fileno(), 9)) == b"new"  # type: ignore[misc]
        theirs.close()
        again.close()
        their_end.close()
    assert found == [None]


async def test_who_is_cancelled_leaves_the_socket_to_the_next() -> None:
    ours, theirs = trio.socket.socketpair()
    with ours, theirs:
        async with looking() as lookout:
            with trio.move_on_after(0):
                await lookout.watch(ours, lambda: b"never")
            await theirs.send(b"next")
            assert await lookout.watch(ours, lambda: os.read(ours.fileno(), 9)) == b"next"


async def test_when_nobody_looks_any_more_everybody_goes_on_alone() -> None:
    ours, theirs = trio.socket.socketpair()
    found: list[object] = []
    with ours, theirs:
        async with trio.open_nursery() as watching:
            async with looking() as lookout:

                async def watch() -> None:
                    found.append(await lookout.watch(ours, lambda: b"never"))

                watching.start_soon(watch)
                await trio.testing.wait_all_tasks_blocked()
        assert found == [None]
        await theirs.send(b"alone")
        assert await lookout.watch(ours, lambda: os.read(ours.fileno(), 9)) == b"alone"


async def test_systems_without_epoll_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOKS_ON", False)
    ours, theirs = trio.socket.socketpair()
    with ours, theirs:
        lookout = Lookout()
        await lookout.run()
        await theirs.send(b"alone")
        assert await lookout.watch(ours, lambda: os.read(ours.fileno(), 9)) == b"alone"
