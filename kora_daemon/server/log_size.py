"""How many operations the log holds, without counting them whenever somebody asks."""

from __future__ import annotations

import math

import trio

from kora_daemon.errors import StoreError
from kora_daemon.server.threads import ThreadPool
from kora_daemon.store.contract import Store

PAUSE_S = 10.0
"""After an attempt to count that failed: on a large log they take long, and writes wait for them."""


class LogSize:
    """Counted at the start and after a doubt; in between what is committed is added to it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.operations = 0
        self.is_doubtful = False
        """A commit has failed, and may have been done all the same."""
        self._failed_at = -math.inf

    async def count(self, thread: ThreadPool) -> None:
        """Ask the store, in the thread that writes, or before there is one. Raises StoreError."""
        self.operations = await thread.run(self._store.count_operations)
        self.is_doubtful = False

    async def settle(self, thread: ThreadPool) -> None:
        """Count again where that is in doubt. While the store can't say, the number is what it was."""
        if not self.is_doubtful or trio.current_time() < self._failed_at + PAUSE_S:
            return
        try:
            await self.count(thread)
        except StoreError:
            self._failed_at = trio.current_time()
