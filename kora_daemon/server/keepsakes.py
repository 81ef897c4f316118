"""What is about to be kept of devices, while the writer has not got to it."""

from __future__ import annotations

import trio


class Keepsakes:
    """Lets a device's next handshake wait for what its last session wants to be kept: else it may begin anew."""

    def __init__(self) -> None:
        self._waiting: dict[str, int] = {}
        self._kept = trio.Event()

    def add(self, node_id: str) -> None:
        """Something of this device is on its way to the writer."""
        self._waiting[node_id] = self._waiting.get(node_id, 0) + 1

    def kept(self, node_id: str) -> None:
        """It is there, or lost."""
        self._waiting[node_id] -= 1
        if not self._waiting[node_id]:
            del self._waiting[node_id]
            self._kept.set()
            self._kept = trio.Event()

    async def wait_for(self, node_id: str) -> None:
        """Return when nothing of this device is on its way."""
        while node_id in self._waiting:
            await self._kept.wait()
