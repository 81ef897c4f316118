"""A stock device that polls, on a network that loses, delays and breaks requests, and their answers."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from itertools import count
from random import Random
from typing import Any

import trio

from kora_daemon.http.messages import Body, HttpError, Request, Response
from tests.support.devices import insert, wall_ms

Answer = Callable[[Request], Awaitable[Response]]
Sent = dict[str, Any]
BATCH = 3
_message_numbers = count(1)


class Offline(Exception):
    """What a request fails with at the device."""


class Network:
    """Brings requests to whoever answers them. `trouble` is how likely it is, each time, that something is lost."""

    def __init__(self, answer: Answer, device: str, random: Random, trouble: float) -> None:
        self._answer = answer
        self._device = device
        self._random = random
        self.trouble = trouble

    def _fails(self) -> bool:
        return self._random.random() < self.trouble

    async def ask(self, method: str, body: bytes = b"") -> tuple[int, bytes]:
        """A request's answer. Raises Offline when either does not get through, whatever became of the other."""
        await trio.sleep(self._random.random() / 200 if self.trouble else 0)
        if self._fails():
            raise Offline
        headers = {"content-type": "application/json", "x-kora-session": self._device}
        request = Request(method, "/", headers=headers, body=self._body(body))
        patience = self._random.random() / 50 if method == "GET" and self._fails() else 60
        try:
            with trio.fail_after(patience):  # who hangs up while a poll is held is not waited for
                response = await self._answer(request)
        except (HttpError, trio.BrokenResourceError, trio.TooSlowError) as error:
            raise Offline from error
        if self._fails():
            response.lost()
            raise Offline
        response.sent()
        if self._fails():
            raise Offline
        assert isinstance(response.body, bytes)
        return response.status, response.body

    def _body(self, body: bytes) -> Body:
        breaks = bool(body) and self._fails()
        pieces = [body[: len(body) // 2], body[len(body) // 2 :], b""] if body else [b""]

        async def next_chunk() -> bytes:
            await trio.sleep(self._random.random() / 500 if self.trouble else 0)
            if breaks and len(pieces) == 2:
                raise trio.BrokenResourceError
            return pieces.pop(0)

        return Body(next_chunk, len(body))


class Device:
    """What it uploads it takes for done, as the stock client does: only the server's vector makes it offer it again.

    It connects again after `pause_s`; stock clients wait for a second or more, so that what they sent before has
    arrived or never will.
    """

    def __init__(self, name: str, network: Network, requests: trio.Nursery, pause_s: float) -> None:
        self.name = name
        self._pause_s = pause_s
        self._network = network
        self._requests = requests
        self.written: list[Sent] = []
        self.taken: list[Sent] = []
        """The operations of others, in the order in which they were applied."""
        self._watermark = 0
        self._offline = trio.Event()
        self._queue: list[Sent] = []
        self._in_flight = False
        self._is_streaming = self._has_answer = False

    def write(self) -> None:
        """Something new."""
        self.written.append(insert(self.name, len(self.written) + 1))
        self._queue.append(self.written[-1])
        self._flush()

    @property
    def is_idle(self) -> bool:
        """Connected, with nothing on its way."""
        return self._is_streaming and not self._queue and not self._in_flight

    async def run(self) -> None:
        """Connect, and again whenever that fails."""
        while True:
            self._offline = trio.Event()
            self._is_streaming = self._in_flight = self._has_answer = False
            with trio.CancelScope() as connection:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._give_up, connection, self._offline)
                    nursery.start_soon(self._poll)
                    self._say("handshake", nodeId=self.name, versionVector={}, schemaVersion=1, **self._position)
            await trio.sleep(self._pause_s)

    @property
    def _position(self) -> Sent:
        return {"lastDeliverySequence": self._watermark}

    async def _give_up(self, connection: trio.CancelScope, offline: trio.Event) -> None:
        await offline.wait()
        connection.cancel()

    def _say(self, kind: str, **members: Any) -> None:
        """Send a message and don't wait; when that fails the connection is over."""
        message = {"type": kind, "messageId": f"msg-{wall_ms()}-{next(_message_numbers)}", **members}
        self._requests.start_soon(self._post, json.dumps(message).encode(), self._offline)

    async def _post(self, body: bytes, offline: trio.Event) -> None:
        try:
            status, _ = await self._network.ask("POST", body)
        except Offline:
            status = 0
        if status != 202:
            offline.set()

    async def _poll(self) -> None:
        while True:
            try:
                status, body = await self._network.ask("GET")
            except Offline:
                status, body = 0, b""
            if status == 200:
                self._take(json.loads(body))
            elif status != 204:
                self._offline.set()
                await trio.sleep_forever()

    def _take(self, message: Sent) -> None:
        if message["type"] == "handshake-response":
            assert message["accepted"]
            if self._has_answer:
                return
            self._has_answer = True
            self._upload_what_is_missing(message["versionVector"].get(self.name, 0))
        elif message["type"] == "operation-batch":
            self._apply(message)
        elif message["type"] == "acknowledgment":
            self._in_flight = False  # any is taken for the one
            self._flush()
        elif message["type"] == "error":
            self._offline.set()

    def _upload_what_is_missing(self, known: int) -> None:
        missing = self.written[known:]
        total = max(1, -(-len(missing) // BATCH))
        for index in range(total):
            self._upload(missing[index * BATCH : (index + 1) * BATCH], index, total)
        self._queue.clear()

    def _upload(self, operations: list[Sent], index: int = 0, total: int | None = None) -> None:
        said = {} if total is None else {"totalBatches": total}
        final = total is None or index == total - 1
        self._say("operation-batch", operations=operations, batchIndex=index, isFinal=final, **said)

    def _apply(self, batch: Sent) -> None:
        base, maximum = batch["baseDeliverySequence"], batch["maxDeliverySequence"]
        if base > self._watermark:
            return
        last = 0
        if base == self._watermark:
            self.taken += [one for one in batch["operations"] if one["nodeId"] != self.name]
            self._watermark = maximum
            last = batch["operations"][-1]["sequenceNumber"] if batch["operations"] else 0
        self._say(
            "acknowledgment",
            acknowledgedMessageId=batch["messageId"],
            lastSequenceNumber=last,
            deliverySequence=self._watermark,
        )
        if self._has_answer and batch["isFinal"] and base <= maximum == self._watermark:
            self._is_streaming = True
            self._flush()

    def _flush(self) -> None:
        if self._is_streaming and not self._in_flight and self._queue:
            operations, self._queue = self._queue[:BATCH], self._queue[BATCH:]
            self._in_flight = True
            self._upload(operations)
