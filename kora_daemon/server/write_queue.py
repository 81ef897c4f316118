"""What waits for the writer, in the order in which it came."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Set
from typing import Final

import trio

from kora_daemon.server.write_requests import TrustedRequest, WriteRequest

MAX_GROUP_OPERATIONS: Final = 2_000
"""In one transaction: enough to pay for its fsync, few enough for a short wait."""
MAX_WAITING_OPERATIONS: Final = 20_000
MAX_WAITING_BYTES: Final = 64 << 20
"""Of all sessions together. Above either no session is read until the writer has caught up."""

Group = list[WriteRequest] | TrustedRequest


class WriteQueue:
    """Batches of sessions, which are written in groups, and writes by the server's own side, which are not."""

    def __init__(self) -> None:
        self._waiting: deque[WriteRequest | TrustedRequest] = deque()
        self.operations = self.size_bytes = 0
        self._room = trio.Event()
        self._room.set()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, request: WriteRequest | TrustedRequest) -> None:
        """Put a write behind all others."""
        self._waiting.append(request)
        self.operations += len(request.operations)
        self.size_bytes += request.size_bytes
        if self._overfull and self._room.is_set():
            self._room = trio.Event()

    @property
    def _overfull(self) -> bool:
        return self.operations >= MAX_WAITING_OPERATIONS or self.size_bytes >= MAX_WAITING_BYTES

    @property
    def has_room(self) -> bool:
        """Whether sessions should go on reading from their peers."""
        return self._room.is_set()

    async def wait_for_room(self) -> None:
        """Return when it is short enough for more."""
        await self._room.wait()

    def take_group(self) -> Group:
        """Take what is to be written next, in one transaction."""
        first = self._waiting.popleft()
        if isinstance(first, TrustedRequest):
            return first
        group = [first]
        count = len(first.operations)
        while self._waiting and count + len(self._waiting[0].operations) <= MAX_GROUP_OPERATIONS:
            request = self._waiting[0]
            if isinstance(request, TrustedRequest):
                break
            self._waiting.popleft()
            count += len(request.operations)
            group.append(request)
        self._took(group)
        return group

    def take_of(self, sessions: Set[int]) -> list[WriteRequest]:
        """Take whatever waits of these sessions."""
        taken = [one for one in self._waiting if isinstance(one, WriteRequest) and one.origin in sessions]
        if taken:
            self._waiting = deque(
                one for one in self._waiting if isinstance(one, TrustedRequest) or one.origin not in sessions
            )
            self._took(taken)
        return taken

    def _took(self, requests: list[WriteRequest]) -> None:
        self.operations -= sum(len(one.operations) for one in requests)
        self.size_bytes -= sum(one.size_bytes for one in requests)
        if not self._overfull:
            self._room.set()

    def clear(self) -> Iterator[WriteRequest | TrustedRequest]:
        """Take everything."""
        while self._waiting:
            yield self._waiting.popleft()
