"""What the writer is asked to do."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import trio
from msgspec import Struct

from kora_daemon.apply.authority import Authority
from kora_daemon.apply.pipeline import BatchOutcome
from kora_daemon.apply.trusted import TrustedOutcome, TrustedWrite
from kora_daemon.errors import StoreUnavailable
from kora_daemon.model.node import NodeNews
from kora_daemon.model.operation import Operation
from kora_daemon.model.scope import ScopeMap
from kora_daemon.server.threads import ThreadPool

T = TypeVar("T")


class WriteRequest(Struct, gc=False):
    """A batch on its way to the log. `origin` is the number of its session.

    `answer` is called in the event loop; with None when the store could not take it, and nothing of it is there.
    `authority` is in whose name it comes, None for who may write anything; `news` is to be remembered with it, unless
    it is about somebody else's device.
    """

    operations: Sequence[Operation]
    size_bytes: int
    origin: int
    answer: Callable[[BatchOutcome | None], None]
    authority: Authority | None = None
    news: NodeNews | None = None
    received_at: float = math.inf
    """On the event loop's clock; for measuring."""


class TrustedRequest(Struct):
    """A write by the server's own side, within `scopes`, None for anywhere.

    It has a transaction of its own: others must not be undone with it.
    """

    write: TrustedWrite
    answer: Callable[[TrustedOutcome | None], None]
    scopes: ScopeMap | None = None
    tried: list[TrustedOutcome] = []
    """What was tried so far, while the store did not answer."""

    @property
    def operations(self) -> Sequence[Operation]:
        """None that anybody has sent."""
        return ()

    @property
    def size_bytes(self) -> int:
        """Does not count."""
        return 0

    @property
    def received_at(self) -> float:
        """Nobody measures how long it takes."""
        return math.inf


class Job(Generic[T]):
    """A call that only the thread that writes may make, and that is none of a session's."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._results: list[T] = []
        self._error: Exception | None = None
        self._over = trio.Event()

    async def run(self, thread: ThreadPool) -> None:
        """Make the call; what it raises is for whoever waits for it."""
        try:
            self._results.append(await thread.run(self._call))
        except Exception as error:
            self._error = error
        finally:
            self._over.set()

    def give_up(self) -> None:
        """It will not be made any more."""
        self._over.set()

    async def result(self) -> T:
        """What the call has returned; raises what it has raised, or `StoreUnavailable`."""
        with trio.CancelScope(shield=True):
            await self._over.wait()
        if self._error is not None:
            raise self._error
        if not self._results:
            raise StoreUnavailable("nothing is written any more: the server stops")
        return self._results[0]
