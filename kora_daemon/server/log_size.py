"""How many operations the log holds, without counting them whenever somebody asks."""

from __future__ import annotations

import math
from collections.abc import Callable

import trio

from kora_daemon.errors import StoreError
from kora_daemon.server.threads import ThreadPool
from kora_daemon.store.contract import Store

PAUSE_S = 2.0
"""Between two counts, or attempts to count, at least."""
_SHARE = 100
"""And so many times as long as a count takes: on a large log that is long, and writes wait for it."""


class LogSize:
    """Counted at the start and after a doubt; in between what is committed is added to it. `wake` gets it settled."""

    def __init__(self, store: Store, wake: Callable[[], None]) -> None:
        self._store = store
        self._wake = wake
        self.operations = 0
        self.is_doubtful = False
        """Others have written, or a commit has failed, and may have been done all the same."""
        self._again_at = -math.inf

    def doubt(self) -> None:
        """The log may hold more than was added here, or less."""
        self.is_doubtful = True
        self._wake()

    async def count(self, thread: ThreadPool) -> None:
        """Ask the store, in the thread that writes, or before there is one. Raises StoreError."""
        self.is_doubtful = False
        try:
            self.operations = await thread.run(self._store.count_operations)
        except StoreError:
            self.is_doubtful = True
            raise

    async def settle(self, thread: ThreadPool) -> None:
        """Count again where that is in doubt. While the store can't say, the number is what it was."""
        begun_at = trio.current_time()
        if not self.is_doubtful or begun_at < self._again_at:
            return
        try:
            await self.count(thread)
        except StoreError:
            pass
        finally:
            took_s = trio.current_time() - begun_at
            self._again_at = trio.current_time() + max(PAUSE_S, _SHARE * took_s)
