"""Operations as apps write them: content ids, clock readings and numbers as a server may check them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from time import time
from typing import Any

import msgspec
from msgspec import Raw

from kora_daemon.model.clock import HybridClock
from kora_daemon.model.identity import operation_id, uuid7
from kora_daemon.model.operation import NULL, Operation, OperationType

COLLECTION = "todos"
SCHEMA = {
    "version": 1,
    "collections": {
        COLLECTION: {
            "fields": {
                "title": {"kind": "string", "required": True},
                "notes": {"kind": "string"},
                "priority": {"kind": "number"},
                "completed": {"kind": "boolean", "defaultValue": False},
                "userId": {"kind": "string"},
            },
            "indexes": ["userId", "completed"],
        }
    },
}
"""What a server that keeps tables has to know."""

_FILLER = "the quick brown fox jumps over the lazy dog and looks back twice "


def new_id() -> str:
    """A name for a node or a record."""
    return uuid7(time() * 1000, os.urandom(16))


class Author:
    """Writes the operations of one node: each record is inserted once and updated `updates` times, in turn.

    `payload_bytes` is the size of the longest field. `records` are so many at a time; 0: every operation inserts one.
    """

    def __init__(self, node_id: str, *, payload_bytes: int = 120, records: int = 0) -> None:
        self.node_id = node_id
        self._payload_bytes = payload_bytes
        self._records = records
        self._clock = HybridClock(node_id)
        self._state: dict[int, tuple[str, dict[str, Any]]] = {}
        self._written = 0
        self._last: list[str] = []

    def write(self, number: int) -> list[Operation]:
        """So many more operations."""
        return [self._next() for _ in range(number)]

    def _next(self) -> Operation:
        number = self._written
        place = number % self._records if self._records else number
        notes = {"notes": self._text(number), "priority": number % 5}
        if place not in self._state:
            data = {"title": f"Item {number}", "completed": number % 3 == 0, "userId": f"user-{number % 97}"} | notes
            record_id = new_id()
            if self._records:
                self._state[place] = record_id, data
            return self._made("insert", record_id, _json(data), NULL)
        record_id, data = self._state[place]
        previous = {name: data[name] for name in notes}
        self._state[place] = record_id, data | notes
        return self._made("update", record_id, _json(notes), _json(previous))

    def _made(self, kind: OperationType, record_id: str, data: Raw, previous: Raw) -> Operation:
        self._written += 1
        made = Operation(
            id="",
            node_id=self.node_id,
            type=kind,
            collection=COLLECTION,
            record_id=record_id,
            timestamp=self._clock.now(int(time() * 1000)),
            sequence_number=self._written,
            causal_deps=self._last,
            schema_version=1,
            data=data,
            previous_data=previous,
        )
        made.id = operation_id(made)
        self._last = [made.id]
        return made

    def _text(self, number: int) -> str:
        return f"{number} {_FILLER * (self._payload_bytes // len(_FILLER) + 1)}"[: max(self._payload_bytes, 1)]


def subset(number: int) -> list[dict[str, Any]]:
    """Live queries of a client: no two of these are equal, and all records match each of them."""
    wheres: list[dict[str, Any]] = [{"completed": True}, {"completed": False}, {"userId": f"nobody-{number}"}]
    return [{"collection": COLLECTION, "where": where} for where in wheres]


def records_for(operations: int, updates: int) -> int:
    """How many records there are when each is updated so many times; 0: nothing is updated."""
    return -(-operations // (updates + 1)) if updates else 0


def chunks(operations: Sequence[Operation], size: int) -> Iterator[Sequence[Operation]]:
    """Operations in batches of at most `size`."""
    for start in range(0, len(operations), size):
        yield operations[start : start + size]


def _json(value: object) -> Raw:
    return Raw(msgspec.json.encode(value))
