"""Waiting for anything to change."""

from __future__ import annotations

import trio


class Changes:
    """Wakes all that wait, at every change; they look for themselves whether it is what they wait for."""

    def __init__(self) -> None:
        self._event: trio.Event | None = None

    def announce(self) -> None:
        """Something has changed."""
        if self._event is not None:
            self._event.set()
            self._event = None

    async def next(self) -> None:
        """Return at the next change."""
        if self._event is None:
            self._event = trio.Event()
        await self._event.wait()
