"""What a server takes of the machine under it: wall time, chance, threads.

Everything else that it waits for goes through the event loop's clock. So whoever brings another machine along, and runs
the loop on another clock, has a server of which nothing is left to chance: `kora_daemon.torture` does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import trio

from kora_daemon.errors import KoraError

T = TypeVar("T")


class NoThread(KoraError):
    """The system gives this process no more threads just now; nothing was called."""


class Machine:
    """The real one."""

    def wall_ms(self) -> int:
        """Ms since the epoch; may jump."""
        return time.time_ns() // 1_000_000

    def random_bytes(self, count: int) -> bytes:
        """So many bytes that nobody can guess."""
        return os.urandom(count)

    async def in_thread(
        self, call: Callable[[], T], name: str, limiter: trio.CapacityLimiter, *, abandonable: bool
    ) -> T:
        """The result of a blocking call, made in a thread of this name as soon as the limiter lets it.

        Raises NoThread.
        """
        has_begun = False

        def begin() -> T:
            nonlocal has_begun
            has_begun = True
            return call()

        try:
            return await trio.to_thread.run_sync(
                begin, limiter=limiter, thread_name=name, abandon_on_cancel=abandonable
            )
        except RuntimeError as error:
            if has_begun or "new thread" not in str(error):
                raise
            raise NoThread(f"no thread for {name} could be started ({error})") from error


_machine: ContextVar[Machine] = ContextVar("kora-machine", default=Machine())  # noqa: B039  it has no state
"""Threads of trio's have the context of who started them."""


def machine() -> Machine:
    """The one that the current task runs on."""
    return _machine.get()


@contextmanager
def running_on(other: Machine) -> Iterator[None]:
    """Let this task, and all that it starts from now on, run on another machine."""
    token = _machine.set(other)
    try:
        yield
    finally:
        _machine.reset(token)
