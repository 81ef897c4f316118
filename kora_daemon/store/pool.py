"""A few connections that many threads share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore, Lock
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """What a pool asks of a connection."""

    def close(self) -> None:
        """Give the connection back to the system."""
        ...


C = TypeVar("C", bound=Closable)


class ConnectionPool(Generic[C]):
    """At most `size` connections, made when they are needed. When all are lent, the next borrower waits for one."""

    def __init__(self, size: int, connect: Callable[[], C]) -> None:
        self._connect = connect
        self._free = BoundedSemaphore(size)
        self._lock = Lock()
        self._idle: list[C] = []
        self._generation = 0

    @contextmanager
    def borrow(self) -> Iterator[C]:
        """Lend a connection to one thread. After an exception it is closed: nobody knows what state it is in."""
        with self._free:
            generation, connection = self._take()
            if connection is None:
                connection = self._connect()
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
            self._put_back(generation, connection)

    def drain(self) -> None:
        """Close the idle connections now, the lent ones when they come back."""
        with self._lock:
            self._generation += 1
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self) -> tuple[int, C | None]:
        with self._lock:
            return self._generation, self._idle.pop() if self._idle else None

    def _put_back(self, generation: int, connection: C) -> None:
        with self._lock:
            is_current = generation == self._generation
            if is_current:
                self._idle.append(connection)
        if not is_current:
            connection.close()
