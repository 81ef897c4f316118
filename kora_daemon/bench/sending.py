"""When uploads leave: as fast as acknowledgments allow, or each at its own moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kora_daemon.bench.client import Client
from kora_daemon.bench.loop import Loop, now_s
from kora_daemon.bench.messages import Batch
from kora_daemon.bench.samples import Samples

Sent = Callable[[Batch, float], None]


class Window:
    """A client's uploads, at most `size` of them unacknowledged at a time."""

    def __init__(
        self, client: Client, batches: Sequence[Batch], size: int, acks: Samples, sent: Sent | None = None
    ) -> None:
        self._client = client
        self._batches = iter(batches)
        self._size = size
        self._acks = acks
        self._sent = sent
        self.left = len(batches)
        self.acknowledged = 0
        """Operations."""

    def begin(self) -> None:
        """Fill the window."""
        for _ in range(self._size):
            self._next()

    def _next(self) -> None:
        batch = next(self._batches, None)
        if batch is None:
            return
        at = now_s()
        if self._sent is not None:
            self._sent(batch, at)

        def acked(heard_at: float) -> None:
            self._acks.add(heard_at - at)
            self.acknowledged += len(batch.operations)
            self.left -= 1
            self._next()

        self._client.upload(batch, acked)


class Pace:
    """Calls `send` with 0, 1, 2, … each at its moment, `gap_s` apart; `behind` says how late that was done.

    What is measured counts from the moment that is handed in, so that nobody hides a queue, the generator neither.
    """

    def __init__(self, loop: Loop, gap_s: float, number: int, send: Callable[[int, float], None]) -> None:
        self._loop = loop
        self._gap_s = gap_s
        self._number = number
        self._send = send
        self._began = 0.0
        self.sent = 0
        self.behind = Samples()

    @property
    def is_over(self) -> bool:
        """Whether all have been sent."""
        return self.sent >= self._number

    def begin(self) -> None:
        """The first one is due now."""
        self._began = now_s()
        self._loop.at(self._began, self._due)

    def stop(self) -> None:
        """Nothing more is due."""
        self._number = self.sent

    def _due(self, moment: float) -> None:
        if self.is_over:
            return
        self.behind.add(now_s() - moment)
        number = self.sent
        self.sent += 1
        self._loop.at(self._began + self.sent * self._gap_s, self._due)
        self._send(number, moment)
