"""What a connection has to wait for (a provider, the disk, a goodbye), one after the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import trio

Job = TypeVar("Job")


class Backlog(Generic[Job]):
    """Works jobs off, in order, in a task that lives only while there are any; between `open` and `close`.

    It holds what one session has asked for, which asks for the next thing once it was answered.
    """

    def __init__(self, work: Callable[[Job], Awaitable[None]]) -> None:
        self._work = work
        self._jobs: list[Job] = []
        self._working = False
        self._under_way: trio.CancelScope | None = None
        self.nursery: trio.Nursery | None = None

    def open(self, nursery: trio.Nursery) -> None:
        """From now on jobs can be worked off, in tasks of this nursery."""
        self.nursery = nursery

    def close(self) -> None:
        """Begin no more."""
        self.nursery = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to be done."""
        return not self._working

    def add(self, job: Job) -> None:
        """Do this behind everything else."""
        self._jobs.append(job)
        if not self._working and self.nursery is not None:
            self._working = True
            self.nursery.start_soon(self._work_off)

    def give_up_for(self, job: Job) -> None:
        """Do this instead of everything else; what is under way is cut short."""
        if self._under_way is not None:
            self._under_way.cancel()
        self._jobs.clear()
        self.add(job)

    async def _work_off(self) -> None:
        try:
            while self._jobs:
                job = self._jobs.pop(0)
                with trio.CancelScope() as self._under_way:
                    await self._work(job)
        finally:
            self._working = False
            self._under_way = None
