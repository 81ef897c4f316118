"""Devices of an app with records: they write, they hear, and they keep apart what they hear."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from tests.support.devices import wall_ms
from tests.support.network import PATIENCE_S, Client, connected

Sent = dict[str, Any]


class Device:
    """A device past its handshake. Operations are stamped now, each later than the one before."""

    def __init__(self, client: Client, node_id: str, watermark: int | None = 0) -> None:
        self.client = client
        self.node_id = node_id
        self.watermark = watermark
        """None for a device of the old generation."""
        self.count = 0
        self.heard: list[Sent] = []
        """The operations delivered so far."""
        self.rejected: list[dict[str, Any]] = []
        self.errors: list[dict[str, Any]] = []
        self.acknowledged: list[str] = []
        """Ids of the messages, in the order of their acknowledgments."""

    def insert(self, collection: str, record_id: str, **data: Any) -> Sent:
        return self.write("insert", collection, record_id, data)

    def update(self, collection: str, record_id: str, **data: Any) -> Sent:
        return self.write("update", collection, record_id, data)

    def delete(self, collection: str, record_id: str) -> Sent:
        return self.write("delete", collection, record_id, None)

    def write(self, kind: str, collection: str, record_id: str, data: dict[str, Any] | None, **members: Any) -> Sent:
        """An operation. Its id is readable: "<node>/<number>"."""
        self.count += 1
        return {
            "id": f"{self.node_id}/{self.count}",
            "nodeId": self.node_id,
            "type": kind,
            "collection": collection,
            "recordId": record_id,
            "data": data,
            "previousData": None,
            "timestamp": {"wallTime": wall_ms(), "logical": self.count % 100_000, "nodeId": self.node_id},
            "sequenceNumber": self.count,
            "causalDeps": [],
            "schemaVersion": 1,
            **members,
        }

    async def send(self, *operations: Sent) -> list[dict[str, Any]]:
        """Upload a batch and wait for its acknowledgment; what was refused of it, or said to be wrong."""
        said = len(self.rejected) + len(self.errors)
        await self.until_acknowledged(await self.client.upload(*operations))
        return [*self.rejected, *self.errors][said:]

    async def takes(self, *operations: Sent) -> None:
        """The same; nothing of it is refused."""
        assert await self.send(*operations) == []

    async def until_acknowledged(self, message_id: str) -> None:
        """Listen until a batch is acknowledged."""
        while message_id not in self.acknowledged:
            await self.listen()

    async def hears(self, count: int) -> list[Sent]:
        """Listen until so many operations have been delivered altogether; all of them."""
        while len(self.heard) < count:
            await self.listen()
        assert len(self.heard) == count
        return self.heard

    async def hears_of(self, record_id: str) -> Sent:
        """Listen until an operation of this record has been delivered."""
        while True:
            for one in self.heard:
                if one["recordId"] == record_id:
                    return one
            await self.listen()

    async def listen(self) -> None:
        """Take one message."""
        message = await self.client.hear()
        if message["type"] == "operation-batch":
            await self.take(message)
        elif message["type"] == "acknowledgment":
            self.acknowledged.append(message["acknowledgedMessageId"])
        elif message["type"] == "operation-rejected":
            self.rejected.append(message)
        elif message["type"] == "error":
            self.errors.append(message)

    async def take(self, batch: dict[str, Any]) -> None:
        """Take a batch as a stock client does. What an acknowledgment came too late for is sent again."""
        if self.watermark is None:
            known = {one["id"] for one in self.heard}
            self.heard += [one for one in batch["operations"] if one["id"] not in known]
        elif batch["baseDeliverySequence"] == self.watermark:
            self.heard += batch["operations"]
            self.watermark = batch["maxDeliverySequence"]
        else:
            return
        await self.client.acknowledge(batch)

    async def hears_nothing_more(self) -> bool:
        """Whether the server has said everything by now."""
        await self.client.was_heard()
        return await self.client.hears_nothing()


def places(operations: list[Sent]) -> list[str]:
    """Operations in short: "update todos/t"."""
    return [f"{one['type']} {one['collection']}/{one['recordId']}" for one in operations]


@asynccontextmanager
async def device(url: str, node_id: str, watermark: int | None = 0, **members: Any) -> AsyncIterator[Device]:
    """A device that has shaken hands, `members` among what it said, and has taken its first download."""
    async with connected(url) as client:
        response = await client.shake_hands(node_id, watermark, **members)
        assert response["accepted"] is True, response
        made = Device(client, node_id, watermark)
        if watermark is not None and watermark > response["serverMaxDeliverySequence"]:
            made.watermark = 0
        final = False
        while not final:
            batch = await client.hear()
            await made.take(batch)
            final = batch["isFinal"]
        with trio.CancelScope(deadline=trio.current_time() + 6 * PATIENCE_S):
            yield made
