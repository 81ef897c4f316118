"""What people do with their devices, what they try although they may not included."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from kora_daemon.torture.client import Client
from kora_daemon.torture.people import OWNED, OWNERS, may_write
from kora_daemon.torture.witness import Key, Witness

Sent = dict[str, Any]
_ATTEMPTS = 0.08
"""How often somebody tries what is not allowed; the server has to refuse it, whatever it is dressed up as."""


class User:
    """Whoever holds the devices."""

    def __init__(self, random: Random, witness: Witness) -> None:
        self._random = random
        self._witness = witness

    def act(self, client: Client, wall_ms: int) -> Iterator[Sent]:
        """One to three new operations, each to be written before the next one is asked for. Perhaps none."""
        name = client.user or "visitor"
        attempts = client.has_watermark and name != "admin"
        if attempts and (name == "reader" or self._random.random() < _ATTEMPTS):
            yield from self._attempt(client, name, wall_ms)
            return
        if name == "reader":
            return
        count = self._random.choice((1, 1, 1, 2, 3))
        also = {"transactionId": f"t{client.numbers}", "mutationName": "edit"} if count > 1 else {}
        for _ in range(count):
            operation = self._change(client, name, wall_ms) | also
            self._witness.made(operation, client)
            yield operation

    def _change(self, client: Client, name: str, wall_ms: int) -> Sent:
        known = self._writable(client, name)
        roll = self._random.random()
        if not known or roll < 0.4:
            return self._insert(client, name, wall_ms)
        collection, record_id = self._random.choice(known)
        if roll < 0.52:
            return client.make("delete", collection, record_id, None, wall_ms)
        if collection != "notes" and roll < 0.75:
            step = self._random.randrange(1, 5)
            intent = {"n": {"type": "increment", "value": step}}
            return client.make("update", collection, record_id, {"n": step}, wall_ms, atomicOps=intent)
        field = {"tasks": "title", "notes": "text", "board": "text"}[collection]
        data: Sent = {field: f"text {client.numbers} of {client.node_id}"}
        if collection != "notes" and roll < 0.85:
            data["n"] = self._random.randrange(100)
        previous = dict.fromkeys(data)
        return client.make("update", collection, record_id, data, wall_ms, previousData=previous)

    def _insert(self, client: Client, name: str, wall_ms: int) -> Sent:
        collection = "board" if name == "visitor" else self._random.choice(("tasks", "tasks", "notes", "board"))
        record_id = f"{collection}-{client.node_id}-{client.numbers}"
        data: Sent = {"text": f"text of {record_id}"} if collection != "tasks" else {"title": record_id, "n": 1}
        if collection in OWNED:
            data["owner"] = owner = self._random.choice(OWNERS) if name == "admin" else name
            if collection == "notes":
                tasks = [key[1] for key in self._writable(client, owner) if key[0] == "tasks"]
                data["task"] = self._random.choice(tasks) if tasks else None
        return client.make("insert", collection, record_id, data, wall_ms)

    def _writable(self, client: Client, name: str) -> list[Key]:
        """Records that the client knows and this user may write."""
        keys = {(one["collection"], one["recordId"]): None for one in client.log.values() if self._is_good(one)}
        return [key for key in keys if may_write(name, key[0], self._witness.owner_of(key))]

    def _is_good(self, operation: Sent) -> bool:
        return operation["id"] not in self._witness.attempts

    def _attempt(self, client: Client, name: str, wall_ms: int) -> Iterator[Sent]:
        tries: list[Callable[[Client, str, int], Sent | None]] = [self._reach_over, self._smuggle_in, self._give_away]
        attempt = self._random.choice(tries)(client, name, wall_ms)
        if attempt is not None:
            self._witness.made(attempt, client, allowed=False)
            yield attempt

    def _reach_over(self, client: Client, name: str, wall_ms: int) -> Sent | None:
        """Change somebody else's record, and say that it was one's own."""
        others = [
            key for key in self._witness.stored_keys() if not may_write(name, key[0], self._witness.owner_of(key))
        ]
        if not others:
            return None
        collection, record_id = self._random.choice(others)
        kind = self._random.choice(("insert", "update", "delete"))
        data = None if kind == "delete" else {"text": "mine", "title": "mine", "owner": name}
        return client.make(kind, collection, record_id, data, wall_ms, previousData={"owner": name})

    def _smuggle_in(self, client: Client, name: str, wall_ms: int) -> Sent:
        """Write something new where one may not."""
        other = self._random.choice([one for one in OWNERS if one != name])
        record_id = f"smuggled-{client.node_id}-{client.numbers}"
        return client.make("insert", "tasks", record_id, {"owner": other, "title": "for you"}, wall_ms)

    def _give_away(self, client: Client, name: str, wall_ms: int) -> Sent | None:
        """Put one's own record into somebody else's hands."""
        own = [key for key in self._writable(client, name) if key[0] == "tasks" and self._witness.is_stored(key)]
        if not own:
            return None
        other = self._random.choice([one for one in OWNERS if one != name])
        return client.make("update", "tasks", self._random.choice(own)[1], {"owner": other}, wall_ms)
