"""A stock client, sans-io: its log, what it uploads, what it takes, what it believes (wire.md sections 4 to 7).

It takes what a server says for granted as little as the real one does. `ClientWitness` sees all that happens to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Any, Protocol

from kora_daemon.model.clock import HybridClock, RemoteClockDrift
from kora_daemon.model.operation import Timestamp
from kora_daemon.torture.weather import EPOCH_MS

Sent = dict[str, Any]

BATCHES = (1, 2, 4)
"""A client's batches hold at most so many operations, always the same."""
FAST_MS = 60_000
"""A device whose clock is so far ahead of the server's corrects it, and stamps anew what it has not got rid of."""
_FAILS_TO_APPLY = 0.02
_KEPT = ("previousData", "atomicOps", "transactionId", "mutationName")


class Offline(Exception):
    """The client gives this connection up."""


class ClientWitness(Protocol):
    """Who looks on."""

    def renamed(self, old: Sent, new: Sent) -> None:
        """A client has made an operation anew."""
        ...

    def answered(self, client: Client, response: Sent) -> None:
        """Its handshake was."""
        ...

    def acknowledged(self, client: Client, operations: list[str]) -> None:
        """The server says that it has all of these, but for those it has refused."""
        ...

    def refused(self, client: Client, operation: Sent, code: str) -> None:
        """The server will never take this one."""
        ...

    def delivered(self, client: Client, batch: Sent) -> None:
        """A batch came, whether it fits or not."""
        ...

    def saw(self, client: Client, message: Sent) -> None:
        """Something came that is not stored."""
        ...


class Client:
    """One device's client, through all of its connections. `user` is "" for a visitor."""

    has_watermark = True

    def __init__(self, node_id: str, user: str, random: Random, witness: ClientWitness) -> None:
        self.node_id = node_id
        self.user = user
        self.random = random
        self._witness = witness
        self.log: dict[str, Sent] = {}
        """All operations that it has, its own and others', by id."""
        self.packs = False
        """Whether it speaks protobuf where the server does."""
        self.shuffles = True
        """Whether it offers what is missing in any order that puts causes first, and not always in that of its clock.
        Where devices of the first generation listen nobody may: what they have of an author they tell by a number."""
        self.disowned: set[str] = set()
        """Of its own, what it does not have any more, whatever has become of that at the server."""
        self.watermark = 0
        self.taken: list[str] = []
        """Since it has begun at 0, in that order."""
        self.numbers = 0
        self._batch = random.choice(BATCHES)
        self._ids = 0
        self._messages = 0
        self._clock = HybridClock(node_id)
        self._correction_ms = 0
        self._must_restamp = False
        self._is_uploaded = self.is_streaming = False
        self._queue: list[str] = []
        self._in_flight = ""
        self._uploads: dict[str, list[str]] = {}
        """Message id -> the operations in it, of those without an answer on this connection."""
        self._acknowledged_ids: set[str] = set()
        self._lost: dict[str, int] = {}
        """Id -> number of its own operations that were there when it lost its store."""

    # What its user does

    def make(self, kind: str, collection: str, record_id: str, data: Sent | None, wall_ms: int, **also: object) -> Sent:
        """A new operation, stamped by its own clock, which shows `wall_ms`; not written yet."""
        self._ids += 1
        mine = [one for one in self.log.values() if one["nodeId"] == self.node_id]
        causes = [one["id"] for one in mine if one["collection"] == collection][-1:]
        stamp = self._clock.now(wall_ms + self._correction_ms)
        return {
            "id": f"{self.node_id}/{self._ids}",
            "nodeId": self.node_id,
            "type": kind,
            "collection": collection,
            "recordId": record_id,
            "data": data,
            "previousData": None,
            "timestamp": {"wallTime": stamp.wall_time, "logical": stamp.logical, "nodeId": self.node_id},
            "sequenceNumber": self._next_number(),
            "causalDeps": causes,
            "schemaVersion": 1,
            **also,
        }

    def _next_number(self) -> int:
        self.numbers += 1
        return self.numbers

    def write(self, operation: Sent) -> list[Sent]:
        """Keep a new operation; what is to be said now."""
        self.log[operation["id"]] = operation
        self._queue.append(operation["id"])
        return self._flush()

    def show(self) -> list[Sent]:
        """Say that somebody is there."""
        state = {"user": {"name": self.user or "visitor", "color": "#123456"}}
        return [self._message("awareness-update", clientId=1, states={"1": state})] if self.is_streaming else []

    def wipe(self) -> None:
        """The device loses its database, and with it what it had not got rid of."""
        own = {one["id"]: one["sequenceNumber"] for one in self.log.values() if one["nodeId"] == self.node_id}
        self.disowned |= own.keys() - self._acknowledged_ids
        self._lost |= own
        self.log, self.watermark, self.taken, self._queue = {}, 0, [], []

    # Its connections

    def greet(self) -> Sent:
        """The handshake of a new connection."""
        self._is_uploaded = self.is_streaming = False
        self._in_flight, self._uploads = "", {}
        vector: dict[str, int] = {}
        for one in self.log.values():
            vector[one["nodeId"]] = max(vector.get(one["nodeId"], 0), one["sequenceNumber"])
        if self.watermark:
            # Its first download broke off, and since it lost its store it has written: the vector says that it has all
            # that it wrote before, too, and only from 0 on own operations are sent in any case (wire.md section 5).
            self.disowned |= {one for one, number in self._lost.items() if number < vector.get(self.node_id, 0)}
        handshake = {"nodeId": self.node_id, "versionVector": vector, "schemaVersion": 1, "authToken": self.user}
        if self.packs:
            handshake["supportedWireFormats"] = ["json", "protobuf"]
        return self._message("handshake", **handshake, **self._position())

    def _position(self) -> Sent:
        return {"lastDeliverySequence": self.watermark}

    @property
    def in_flight(self) -> str:
        """The message whose acknowledgment it waits for before it sends more, "" for none."""
        return self._in_flight

    @property
    def is_idle(self) -> bool:
        """In step, with nothing of its own under way."""
        return self.is_streaming and not self._queue and not self._in_flight and not self._uploads

    def take(self, message: Sent, wall_ms: int) -> list[Sent]:
        """Hear a message while its own clock shows `wall_ms`; what it says. Raises Offline."""
        kind = message["type"]
        if kind == "handshake-response":
            return [] if self._is_uploaded else self._answered(message, wall_ms)
        if kind == "operation-batch":
            self._witness.delivered(self, message)
            return self._apply(message, wall_ms)
        if kind == "acknowledgment":
            self._acknowledged(message["acknowledgedMessageId"])
            self._in_flight = ""  # any is taken for the one
            return self._flush()
        if kind == "operation-rejected":
            self._refused(message)
        elif kind == "error":
            self._must_restamp = self._must_restamp or message["code"] == "INVALID_TIMESTAMP"
            raise Offline(message["code"])
        else:
            self._witness.saw(self, message)
        return []

    def _answered(self, response: Sent, wall_ms: int) -> list[Sent]:
        self._witness.answered(self, response)
        if not response["accepted"]:
            raise Offline(response["rejectReason"])
        self._begin(response)
        known = response["versionVector"]
        self._correct_clock(response["serverTime"], wall_ms, known.get(self.node_id, 0))
        missing = [one for one in self.log.values() if one["sequenceNumber"] > known.get(one["nodeId"], 0)]
        self._queue = []
        self._is_uploaded = True
        said = self._upload_all(self._in_some_order(missing))
        return said + self._flush()

    def _begin(self, response: Sent) -> None:
        if self.watermark > response["serverMaxDeliverySequence"]:
            self.watermark, self.taken = 0, []

    def _correct_clock(self, server_ms: int, wall_ms: int, known: int) -> None:
        fast = wall_ms + self._correction_ms - server_ms > FAST_MS
        if fast:
            self._correction_ms = server_ms - wall_ms
        if fast or self._must_restamp:
            self._must_restamp = False
            self._clock = HybridClock(self.node_id)
            self._restamp(server_ms, known)

    def _restamp(self, server_ms: int, known: int) -> None:
        """Make operations that come from the future anew: with other ids and numbers, since stamps enter the id."""
        renamed: dict[str, str] = {}
        for old in [one for one in self.log.values() if one["nodeId"] == self.node_id]:
            if old["sequenceNumber"] <= known or old["timestamp"]["wallTime"] <= server_ms + FAST_MS // 2:
                continue
            del self.log[old["id"]]
            self.disowned.add(old["id"])
            causes = [renamed.get(one, one) for one in old["causalDeps"]]
            also = {name: old[name] for name in _KEPT if name in old}
            what = (old["type"], old["collection"], old["recordId"], old["data"])
            new = self.make(*what, server_ms - self._correction_ms, **also, causalDeps=causes)
            renamed[old["id"]] = new["id"]
            self.log[new["id"]] = new
            self._witness.renamed(old, new)

    def _in_some_order(self, operations: Iterable[Sent]) -> list[Sent]:
        """Causes before effects; otherwise by the clock, or in any order."""
        left = {one["id"]: one for one in sorted(operations, key=_clock)}
        shuffles = self.shuffles and self.random.random() < 0.5
        ordered: list[Sent] = []
        while left:
            free = [one for one in left.values() if not any(cause in left for cause in one["causalDeps"])]
            chosen = self.random.choice(free) if shuffles else free[0]
            ordered.append(left.pop(chosen["id"]))
        return ordered

    def _upload_all(self, operations: list[Sent]) -> list[Sent]:
        chunks = [operations[at : at + self._batch] for at in range(0, len(operations), self._batch)] or [[]]
        total = len(chunks)
        return [
            self._upload(chunk, number, number == total - 1, totalBatches=total) for number, chunk in enumerate(chunks)
        ]

    def _upload(self, operations: list[Sent], number: int = 0, final: bool = True, **total: int) -> Sent:
        message = self._message("operation-batch", operations=operations, batchIndex=number, isFinal=final, **total)
        self._uploads[message["messageId"]] = [one["id"] for one in operations]
        return message

    def _flush(self) -> list[Sent]:
        if not self.is_streaming or self._in_flight or not self._queue:
            return []
        ids, self._queue = self._queue[: self._batch], self._queue[self._batch :]
        message = self._upload([self.log[one] for one in ids if one in self.log])
        self._in_flight = message["messageId"]
        return [message]

    def _acknowledged(self, message_id: str) -> None:
        operations = self._uploads.pop(message_id, [])
        self._acknowledged_ids.update(operations)
        self._witness.acknowledged(self, operations)

    def _refused(self, message: Sent) -> None:
        operation = self.log.pop(message["operationId"], None)
        if operation is not None:
            self._witness.refused(self, operation, message["code"])

    # What it is sent

    def _apply(self, batch: Sent, wall_ms: int) -> list[Sent]:
        base, maximum = batch["baseDeliverySequence"], batch["maxDeliverySequence"]
        if base > self.watermark:
            return []
        last = 0
        if base == self.watermark:
            if batch["operations"] and self.random.random() < _FAILS_TO_APPLY:
                return []
            self._keep(batch["operations"], wall_ms)
            self.taken += [one["id"] for one in batch["operations"]]
            self.watermark = maximum
            last = batch["operations"][-1]["sequenceNumber"] if batch["operations"] else 0
        said = [self._taken(batch, last, deliverySequence=self.watermark)]
        if self._is_uploaded and batch["isFinal"] and base <= maximum == self.watermark:
            self.is_streaming = True
        return said + self._flush()

    def _keep(self, operations: Iterable[Sent], wall_ms: int) -> None:
        for one in operations:
            self.log.setdefault(one["id"], one)
            stamp = one["timestamp"]
            try:
                remote = Timestamp(stamp["wallTime"], stamp["logical"], stamp["nodeId"])
                self._clock.receive(remote, wall_ms + self._correction_ms)
            except RemoteClockDrift:
                pass  # somebody else's clock is wrong

    def _taken(self, batch: Sent, last: int, **position: int) -> Sent:
        acknowledged = batch["messageId"]
        return self._message("acknowledgment", acknowledgedMessageId=acknowledged, lastSequenceNumber=last, **position)

    def _message(self, kind: str, **members: object) -> Sent:
        self._messages += 1
        return {"type": kind, "messageId": f"msg-{EPOCH_MS}-{self._messages}", **members}


class OldClient(Client):
    """One of the first generation: it knows no watermark, only what it has of each author."""

    has_watermark = False

    def _position(self) -> Sent:
        return {} if self._cursor is None else {"deltaCursor": self._cursor}

    _cursor: str | None = None

    def _begin(self, response: Sent) -> None:
        self.taken = []

    def _apply(self, batch: Sent, wall_ms: int) -> list[Sent]:
        operations = batch["operations"]
        self._keep(operations, wall_ms)
        self.taken += [one["id"] for one in operations]
        if not self.is_streaming:
            self._cursor = batch.get("cursor") or self._cursor
        if batch["isFinal"] and self._is_uploaded:
            self.is_streaming, self._cursor = True, None
        said = [self._taken(batch, operations[-1]["sequenceNumber"] if operations else 0)]
        return said + self._flush()


def _clock(operation: Sent) -> tuple[int, int, str]:
    stamp = operation["timestamp"]
    return stamp["wallTime"], stamp["logical"], stamp["nodeId"]
