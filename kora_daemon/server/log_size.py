"""How many operations the log holds, without counting them whenever somebody asks."""

from __future__ import annotations

from kora_daemon.server.threads import ThreadPool
from kora_daemon.store.contract import Store


class LogSize:
    """Counted at the start and after a doubt; in between what is committed is added to it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.operations = 0
        self.is_doubtful = False
        """A commit has failed, and may have been done all the same."""

    async def count(self, thread: ThreadPool) -> None:
        """Ask the store, in the thread that writes, or before there is one. Raises StoreError."""
        self.operations = await thread.run(self._store.count_operations)
        self.is_doubtful = False
