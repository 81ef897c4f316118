"""Which operation reached which listener, when, and whether it came once."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence

from kora_daemon.bench.client import Client
from kora_daemon.bench.messages import Delivered
from kora_daemon.bench.samples import Samples
from kora_daemon.model.operation import Operation

Taken = Callable[[Client, Delivered, float], None]


class Deliveries:
    """Counts what every listener takes. An operation is planned, then due, then delivered to each of them.

    `each` has the time from due to taken of each delivery, `all` of the last one of each operation. A listener that was
    away when an operation was due is late by that: such deliveries count (`caught_up`), their times do not. Nor do
    those of operations that were never marked as due.
    """

    def __init__(self) -> None:
        self.each, self.all = Samples(), Samples()
        self.delivered = self.doubled = self.caught_up = self.complete = 0
        self.last_at = 0.0
        self._places: dict[str, int] = {}
        self._due = array("d")
        self._left = array("l")
        self._seen: list[bytearray] = []

    @property
    def listeners(self) -> int:
        """To how many each of them goes."""
        return len(self._seen)

    @property
    def planned(self) -> int:
        """How many operations there are."""
        return len(self._due)

    @property
    def is_complete(self) -> bool:
        """Whether everybody has everything that is planned."""
        return self.complete == len(self._due)

    @property
    def missing(self) -> int:
        """Deliveries that are still to come."""
        return sum(self._left)

    def listen(self, clients: Iterable[Client]) -> None:
        """Count what these take; before anything is planned."""
        for client in clients:
            seen = bytearray()
            self._seen.append(seen)
            client.on_taken = self._listener(seen)

    def plan(self, operations: Iterable[Operation]) -> None:
        """These are to reach every listener."""
        for operation in operations:
            self._places[operation.id] = len(self._due)
            self._due.append(0.0)
            self._left.append(len(self._seen))
        for seen in self._seen:
            seen.extend(bytes(len(self._due) - len(seen)))

    def mark_due(self, operations: Iterable[Operation], at: float) -> None:
        """From this moment on they could be there."""
        for operation in operations:
            self._due[self._places[operation.id]] = at

    def _listener(self, seen: bytearray) -> Taken:
        def taken(client: Client, batch: Delivered, at: float) -> None:
            self._take(client.streaming_at, seen, self._places_in(batch), at)

        return taken

    def _take(self, since: float, seen: bytearray, places: Sequence[int], at: float) -> None:
        due, left = self._due, self._left
        for place in places:
            moment = due[place]
            if seen[place]:
                self.doubled += 1
                continue
            seen[place] = 1
            self.delivered += 1
            left[place] -= 1
            if since and since <= moment:
                self.each.add(at - moment)
            else:
                self.caught_up += 1
            if not left[place]:
                self.complete += 1
                if moment:
                    self.all.add(at - moment)
        if places:
            self.last_at = at

    def _places_in(self, batch: Delivered) -> Sequence[int]:
        if batch.places is None:
            known = self._places
            batch.places = [known[one.id] for one in batch.operations if one.id in known]
        return batch.places
