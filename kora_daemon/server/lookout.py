"""Which sockets have something to read: one task looks for all of them, and calls whoever is concerned.

An acknowledgment costs less to understand than a task costs to wake, and a fan-out to a thousand devices brings a
thousand of them back.
"""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import outcome
import trio

Found = TypeVar("Found")

LOOKS_ON: bool = hasattr(select, "epoll")
"""Linux. Elsewhere each stream waits by itself."""
_AT_ONCE = 64
"""Sockets that are read in a row before other tasks get their turn."""
_FEW = 4
_PAUSE_S = 0.001
"""Between two looks while more than a few talk: to look costs more than to read, so they are read together."""


class _Post(Generic[Found]):
    """What is to be called for one socket, until something comes of it."""

    __slots__ = ("_look", "_result", "_settled")

    def __init__(self, look: Callable[[], Found | None]) -> None:
        self._look = look
        self._settled = trio.Event()
        self._result: outcome.Outcome[Found | None] = outcome.Value(None)

    def look(self) -> bool:
        """Whether this was the last time."""
        try:
            found = self._look()
        except Exception as error:
            self._result = outcome.Error(error)
        else:
            if found is None:
                return False
            self._result = outcome.Value(found)
        self._settled.set()
        return True

    def give_up(self) -> None:
        """Nothing will come of it."""
        self._settled.set()

    async def result(self) -> Found | None:
        """What has come of it, as soon as it has."""
        await self._settled.wait()
        return self._result.unwrap()


class Lookout:
    """Looks while `run` runs."""

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self._posts: dict[int, _Post[Any]] = {}

    async def run(self) -> None:
        """Look, for ever; who still waits in the end is told None."""
        if not LOOKS_ON:
            return
        with select.epoll() as epoll:
            self._epoll = epoll
            try:
                await self._look(epoll)
            finally:
                self._epoll = None
                for post in self._posts.values():
                    post.give_up()

    async def _look(self, epoll: select.epoll) -> None:
        lately: deque[int] = deque(maxlen=_FEW)
        looked_at = 0.0
        while True:
            await trio.lowlevel.wait_readable(epoll.fileno())
            if trio.current_time() - looked_at > 2 * _PAUSE_S:
                lately.clear()
            looked_at = trio.current_time()
            found = [descriptor for descriptor, _ in epoll.poll(0, _AT_ONCE)]
            for descriptor in found:
                post = self._posts.get(descriptor)
                if post is not None and post.look():
                    self._dismiss(descriptor)
            lately += found
            if len(set(lately)) == _FEW and len(found) < _AT_ONCE:
                await trio.sleep(_PAUSE_S)

    async def watch(self, sock: trio.socket.SocketType, look: Callable[[], Found | None]) -> Found | None:
        """Call `look`, which must not block, whenever there is something to read, until it returns something: that.

        Raises what it raises. None when the socket is about to be closed, or nobody looks any more.
        """
        if self._epoll is None:
            await trio.lowlevel.wait_readable(sock)
            return look()
        descriptor, post = sock.fileno(), _Post(look)
        self._epoll.register(descriptor, select.EPOLLIN)
        self._posts[descriptor] = post
        try:
            return await post.result()
        finally:
            if self._posts.get(descriptor) is post:
                self._dismiss(descriptor)

    def leave(self, sock: trio.socket.SocketType) -> None:
        """It is about to be closed; its number may be another one's soon."""
        post = self._posts.get(sock.fileno())
        if post is not None:
            self._dismiss(sock.fileno())
            post.give_up()

    def _dismiss(self, descriptor: int) -> None:
        del self._posts[descriptor]
        if self._epoll is not None:
            self._epoll.unregister(descriptor)
