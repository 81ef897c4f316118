"""A device as the stock client makes it, with its store: what it sends, takes, drops and withholds.

The facts are those of wire.md sections 4 to 7 and scopes.md sections 3, 5, 7 and 8. It takes what a server sends for
granted as little as the real one does: what does not fit its watermark is passed over, what is outside of its accepted
scope or its subsets is dropped without a word.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio

from tests.support.devices import wall_ms
from tests.support.network import PATIENCE_S, Client, Closed, connected

Sent = dict[str, Any]
Scope = Mapping[str, Mapping[str, Any]]
MISSING = object()


class StockDevice:
    """Lives through any number of connections and restarts of its app. `scope` is what the app is configured with."""

    def __init__(self, node_id: str, token: str = "", scope: Scope | None = None) -> None:
        self.node_id = node_id
        self.token = token
        self.configured = self.active = scope
        self.subsets: list[tuple[str, Mapping[str, Any]]] = []
        self.log: dict[str, Sent] = {}
        """All operations that it has, its own and others', by id."""
        self.rejected: dict[str, str] = {}
        """Operation id -> code."""
        self.watermarks: dict[str, int] = {}
        self.watermark = 0
        self.count = 0
        self.uploaded: list[str] = []
        """Ids of all operations ever sent, in order, once for each time."""
        self.delivered: list[str] = []
        """Ids of all operations in batches that fitted, those dropped included."""
        self.response: Sent = {}
        """The answer to its last handshake."""
        self.is_synced = False
        self._client: Client | None = None
        self._unanswered: list[str] = []
        self._news = trio.Event()

    # What its user does

    def insert(self, collection: str, record_id: str, **data: Any) -> Sent:
        return self.keep("insert", collection, record_id, data)

    def update(self, collection: str, record_id: str, **data: Any) -> Sent:
        return self.keep("update", collection, record_id, data)

    def delete(self, collection: str, record_id: str) -> Sent:
        return self.keep("delete", collection, record_id, None)

    def keep(self, kind: str, collection: str, record_id: str, data: dict[str, Any] | None) -> Sent:
        """A write, into its own store. Its id is readable: "<node>/<count>"."""
        self.count += 1
        own = (one["sequenceNumber"] for one in self.log.values() if one["nodeId"] == self.node_id)
        record = self.record(collection, record_id) or {}
        previous = {name: record[name] for name in data or {} if name in record}
        operation: Sent = {
            "id": f"{self.node_id}/{self.count}",
            "nodeId": self.node_id,
            "type": kind,
            "collection": collection,
            "recordId": record_id,
            "data": data,
            "previousData": previous if kind == "update" else None,
            "timestamp": {"wallTime": wall_ms(), "logical": self.count % 100_000, "nodeId": self.node_id},
            "sequenceNumber": max(own, default=0) + 1,
            "causalDeps": [],
            "schemaVersion": 1,
        }
        self.log[operation["id"]] = operation
        return operation

    def restart(self) -> None:
        """The app is started again: its scope is the configured one, its subscriptions are gone."""
        self.active, self.subsets = self.configured, []
        self.watermark = self.watermarks.get(self.view, 0)

    def watch(self, *subsets: tuple[str, Mapping[str, Any]]) -> None:
        """From the next connection on it has these live queries."""
        self.subsets = list(subsets)
        self.watermark = self.watermarks.get(self.view, 0)

    def record(self, collection: str, record_id: str) -> Sent | None:
        """What its store shows, None for a record that is deleted or unknown."""
        return self._row(collection, record_id)[0]

    def _row(self, collection: str, record_id: str) -> tuple[Sent | None, Sent]:
        """A record, and its fields whether it is deleted or not: none where it is unknown."""
        state: Sent | None = None
        fields: Sent = {}
        for operation in sorted(self.log.values(), key=_clock):
            if (operation["collection"], operation["recordId"]) != (collection, record_id):
                continue
            if operation["type"] == "delete":
                state = None
            elif operation["type"] == "insert" or state is not None:
                state = {**({} if operation["type"] == "insert" else state or {}), **(operation["data"] or {})}
                fields = state
        return state, fields

    def records(self, collection: str) -> dict[str, Sent]:
        """The live records of a collection."""
        ids = {one["recordId"] for one in self.log.values() if one["collection"] == collection}
        found = {one: self.record(collection, one) for one in sorted(ids)}
        return {one: state for one, state in found.items() if state is not None}

    # What it lets through, in both directions

    @property
    def view(self) -> str:
        return json.dumps([self.active, sorted(map(str, self.subsets))], sort_keys=True) if self._is_limited else ""

    @property
    def _is_limited(self) -> bool:
        return self.active is not None or bool(self.subsets)

    def allows(self, operation: Sent) -> bool:
        collection = operation["collection"]
        fields = {
            **self._row(collection, operation["recordId"])[1],
            **(operation["previousData"] or {}),
            **(operation["data"] or {}),
        }
        if self.active is not None and not (collection in self.active and _fits(self.active[collection], fields)):
            return False
        wheres = [where for name, where in self.subsets if name == collection]
        return not wheres or (bool(fields) and any(_fits(where, fields) for where in wheres))

    # Its connection

    @asynccontextmanager
    async def online(self, url: str) -> AsyncIterator[StockDevice]:
        """Connected and in `synced`; offline again at the end, when nothing is under way any more."""
        async with self.connecting(url):
            await self.until(lambda: self.is_synced and not self._unanswered)
            yield self
            await self.hears_nothing_more()

    @asynccontextmanager
    async def connecting(self, url: str) -> AsyncIterator[StockDevice]:
        """The same, without waiting for anything but the answer to its handshake."""
        async with connected(url) as client, trio.open_nursery() as nursery:
            self._client, self.is_synced, self._unanswered = client, False, []
            await self._shake_hands(client)
            await self._send([one for one in self._missing_there() if self.allows(one)])
            nursery.start_soon(self._listen, client)
            yield self
            nursery.cancel_scope.cancel()
        self._client = None

    async def push(self, *operations: Sent) -> None:
        """Upload what was just written, unless it is to be withheld, and wait for the acknowledgment."""
        allowed = [one for one in operations if self.allows(one)]
        if allowed:
            await self._send(allowed)
        await self.until(lambda: not self._unanswered)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until it has heard enough."""
        try:
            with trio.fail_after(PATIENCE_S):
                while not condition():
                    self._news = trio.Event()
                    await self._news.wait()
        except trio.TooSlowError:
            raise AssertionError(f"{self.node_id} waits: synced={self.is_synced}, log={list(self.log)}") from None

    async def hears_nothing_more(self) -> None:
        """Return when the server has said all that it has to say about what was said to it so far."""
        await self.push()
        assert self._client is not None
        message_id = await self._client.upload()
        self._unanswered.append(message_id)
        await self.until(lambda: message_id not in self._unanswered)

    async def _shake_hands(self, client: Client) -> None:
        named: Sent = {} if self.configured is None else {"syncScope": self.configured}
        if self.subsets:
            named["syncQueries"] = [{"collection": name, "where": where} for name, where in self.subsets]
        vector: dict[str, int] = {}
        for one in self.log.values():
            vector[one["nodeId"]] = max(vector.get(one["nodeId"], 0), one["sequenceNumber"])
        self.response = await client.shake_hands(
            self.node_id, self.watermark, versionVector=vector, authToken=self.token, **named
        )
        assert self.response.get("accepted") is True, self.response
        if self.watermark > self.response["serverMaxDeliverySequence"]:
            self.watermark = self.watermarks[self.view] = 0
        self.active = self.response.get("acceptedScope", self.active)

    def _missing_there(self) -> list[Sent]:
        known = self.response["versionVector"]
        missing = [one for one in self.log.values() if one["sequenceNumber"] > known.get(one["nodeId"], 0)]
        return sorted(missing, key=lambda one: (_clock(one), one["sequenceNumber"]))

    async def _send(self, operations: list[Sent]) -> None:
        assert self._client is not None
        self.uploaded += [one["id"] for one in operations]
        self._unanswered.append(await self._client.upload(*operations))

    async def _listen(self, client: Client) -> None:
        try:
            async for message in client.messages():
                await self._take(client, message)
                self._news.set()
        except Closed:
            self._news.set()

    async def _take(self, client: Client, message: Sent) -> None:
        if message["type"] == "acknowledgment":
            self._unanswered.remove(message["acknowledgedMessageId"])
        elif message["type"] == "operation-rejected":
            self.rejected[message["operationId"]] = message["code"]
        elif message["type"] == "operation-batch":
            await self._apply(client, message)

    async def _apply(self, client: Client, batch: Sent) -> None:
        base, maximum = batch["baseDeliverySequence"], batch["maxDeliverySequence"]
        if base > self.watermark:
            return
        acknowledgment: Sent = {"type": "acknowledgment", "acknowledgedMessageId": batch["messageId"]}
        if base < self.watermark:
            await client.say({**acknowledgment, "lastSequenceNumber": 0, "deliverySequence": self.watermark})
            return
        operations = batch["operations"]
        self.delivered += [one["id"] for one in operations]
        # All of them are looked at before any is applied.
        for one in [one for one in operations if self.allows(one)]:
            self.log.setdefault(one["id"], one)
        last = operations[-1]["sequenceNumber"] if operations else 0
        await client.say({**acknowledgment, "lastSequenceNumber": last, "deliverySequence": maximum})
        self.watermark = self.watermarks[self.view] = maximum
        self.is_synced = self.is_synced or batch["isFinal"]


def _clock(operation: Sent) -> tuple[int, int, str]:
    timestamp = operation["timestamp"]
    return timestamp["wallTime"], timestamp["logical"], timestamp["nodeId"]


def _fits(where: Mapping[str, Any], fields: Mapping[str, Any]) -> bool:
    return all(_same(fields.get(name, MISSING), value) for name, value in where.items())


def _same(one: Any, other: Any) -> bool:
    """As `===` compares JSON values."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return not isinstance(one, list | dict) and one == other
