"""What the server lends its auth provider: a few threads, and deadlines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from kora_daemon.errors import AuthUnavailable
from kora_daemon.server.threads import ThreadPool

T = TypeVar("T")

AUTH_THREADS = 8


class AuthCalls:
    """Makes a provider's calls. One that hangs keeps its thread, and nothing else."""

    def __init__(self, threads: int = AUTH_THREADS) -> None:
        self._threads = ThreadPool("kora-auth", threads)

    async def blocking(self, call: Callable[[], T], timeout_s: float) -> T:
        """The result of a call that blocks; waiting for a thread counts. Raises AuthUnavailable when it is late."""
        return await self.awaiting(lambda: self._threads.run_abandonable(call), timeout_s)

    async def awaiting(self, call: Callable[[], Awaitable[T]], timeout_s: float) -> T:
        """The result of an awaitable. Raises AuthUnavailable when it is late."""
        try:
            with trio.fail_after(timeout_s):
                return await call()
        except trio.TooSlowError:
            raise AuthUnavailable(f"No answer within {timeout_s:g} s") from None
