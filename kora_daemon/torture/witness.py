"""Sees every commit and every frame, and says at once when something is wrong."""

from __future__ import annotations

import json
import sys
import traceback
from typing import Any

from msgspec import Raw, Struct, UnsetType

from kora_daemon.model.operation import Operation
from kora_daemon.store.contract import Store
from kora_daemon.torture.client import Client
from kora_daemon.torture.people import may_see, told_scope
from kora_daemon.torture.trace import Trace

Sent = dict[str, Any]
Key = tuple[str, str]


class Logged(Struct):
    """An operation of the log."""

    sequence: int
    operation: Sent
    owner: str | None

    @property
    def key(self) -> Key:
        """Its record."""
        return self.operation["collection"], self.operation["recordId"]


class Witness:
    """Knows what the devices have made, what the store has of it, and what everybody was told."""

    def __init__(self, store: Store, trace: Trace) -> None:
        self.store = store
        self._trace = trace
        self.violations: list[str] = []
        self.log: list[Logged] = []
        self.by_id: dict[str, Logged] = {}
        self.attempts: set[str] = set()
        """Ids of operations that nobody may store."""
        self.refusals: dict[str, str] = {}
        self.deliveries = 0
        self._made: dict[str, Sent] = {}
        self._owners: dict[Key, str | None] = {}
        self._largest: dict[str, int] = {}
        self._causes_to_come: dict[str, str] = {}
        """Operation id -> what depends on it and is stored, of those that are not."""

    def complain(self, what: str) -> None:
        """Something is not as it must be."""
        self.violations.append(what)
        self._trace.note("ORACLE", what)

    # What people do

    def made(self, operation: Sent, client: Client, *, allowed: bool = True) -> None:
        """A client has a new operation."""
        self._made[operation["id"]] = operation
        kind = operation["type"] if allowed else f"not allowed: {operation['type']}"
        self._trace.note(client.node_id, f"writes {operation['id']} {kind} {operation['recordId']}")
        if not allowed:
            self.attempts.add(operation["id"])
        elif operation["data"] is not None and "owner" in operation["data"]:
            self._owners.setdefault((operation["collection"], operation["recordId"]), operation["data"]["owner"])

    def renamed(self, old: Sent, new: Sent) -> None:
        """A client has made an operation anew."""
        self._made[new["id"]] = new
        if old["id"] in self.attempts:
            self.attempts.add(new["id"])

    def owner_of(self, key: Key) -> str | None:
        """Whose record it is, or is going to be."""
        return self._owners.get(key)

    def is_stored(self, key: Key) -> bool:
        """Whether the log has something of the record."""
        return any(one.key == key for one in self.log)

    def stored_keys(self) -> list[Key]:
        """Of all records in the log."""
        return list(dict.fromkeys(one.key for one in self.log))

    # What the store does

    def committed(self, doubt: str) -> None:
        """A commit has happened."""
        last = self.log[-1].sequence if self.log else 0
        for entry in self.store.entries_after(last, 1_000):
            self._logged(entry.sequence, entry.operation)
        self._trace.note("store", f"commit up to {self.log[-1].sequence if self.log else 0} {doubt}".rstrip())

    def _logged(self, sequence: int, stored: Operation) -> None:
        operation = _as_sent(stored)
        made = self._made.setdefault(stored.id, operation)
        if operation != made:
            self.complain(f"{stored.id} is stored as {operation}, was made as {made}")
        if stored.id in self.by_id:
            self.complain(f"{stored.id} is stored twice")
        if stored.id in self.attempts:
            self.complain(f"{stored.id} is stored, which must be refused")
        if stored.id in self._causes_to_come:
            self.complain(f"{stored.id} is stored behind {self._causes_to_come[stored.id]}, which depends on it")
        self._causes_to_come |= {cause: stored.id for cause in stored.causal_deps if cause not in self.by_id}
        key = (stored.collection, stored.record_id)
        logged = Logged(sequence, operation, self._owners.get(key))
        self.log.append(logged)
        self.by_id[stored.id] = logged
        self._largest[stored.node_id] = max(self._largest.get(stored.node_id, 0), stored.sequence_number)

    # What clients are told

    def answered(self, client: Client, response: Sent) -> None:
        """No more may be promised than there is."""
        vector = response["versionVector"]
        told = f"accepted={response['accepted']} vector={sorted(vector.items())}"
        self._trace.note(client.node_id, f"answered {told} max={response.get('serverMaxDeliverySequence')}")
        if not response["accepted"]:
            self.complain(f"{client.node_id} is turned away: {response}")
        for node_id, number in vector.items():
            if number > self._largest.get(node_id, 0):
                self.complain(f"{client.node_id} is told that {node_id} has got {number}, which nobody has stored")
        for one in client.log.values():
            if one["sequenceNumber"] <= vector.get(one["nodeId"], 0) and one["id"] not in self.by_id:
                self.complain(f"{client.node_id} is told that {one['id']} is there, which is not stored")
        expected = told_scope(client.user or "visitor")
        if response.get("acceptedScope") != expected:
            self.complain(f"{client.node_id} is told of the scope {response.get('acceptedScope')}")
        begins_anew = client.watermark > response.get("serverMaxDeliverySequence", client.watermark)
        if begins_anew and expected is None:
            self.complain(f"{client.node_id} has to begin anew, although nothing about its view has changed")

    def acknowledged(self, client: Client, operations: list[str]) -> None:
        """What is acknowledged must be stored, or refused."""
        if operations:
            self._trace.note(client.node_id, f"acknowledged {operations}")
        for one in operations:
            if one not in self.by_id and one not in self.refusals:
                self.complain(f"{client.node_id} has {one} acknowledged, which is not stored")

    def refused(self, client: Client, operation: Sent, code: str) -> None:
        """Only what is not allowed may be."""
        self._trace.note(client.node_id, f"refused {operation['id']}: {code}")
        self.refusals[operation["id"]] = code
        if operation["id"] not in self.attempts:
            self.complain(f"{client.node_id} has {operation['id']} refused, which is allowed: {code}")

    def delivered(self, client: Client, batch: Sent) -> None:
        """A batch holds exactly what its client may see of a part of the log, unchanged and in order."""
        base, maximum = batch.get("baseDeliverySequence"), batch.get("maxDeliverySequence")
        operations = batch["operations"]
        ids = [one["id"] for one in operations]
        self._trace.note(client.node_id, f"sent ({base}, {maximum}] final={batch['isFinal']} {ids}")
        self.deliveries += len(operations)
        for one in operations:
            self._check_operation(client, one)
        if base is None or maximum is None:
            return
        if len(set(ids)) == len(ids) and all(one in self.by_id for one in ids):
            self._check_span(client, ids, base, maximum)
        else:
            self.complain(f"{client.node_id} is sent a batch with the same operation twice: {ids}")

    def _check_operation(self, client: Client, operation: Sent) -> None:
        logged = self.by_id.get(operation["id"])
        if logged is None:
            self.complain(f"{client.node_id} is sent {operation['id']}, which is not stored")
        elif not self.sees(client, logged):
            self.complain(f"{client.node_id} of {client.user or 'visitor'} is sent {operation['id']}, out of its scope")
        elif operation != logged.operation:
            self.complain(f"{client.node_id} is sent {operation}, stored was {logged.operation}")

    def _check_span(self, client: Client, ids: list[str], base: int, maximum: int) -> None:
        inside = [one for one in self.log if base < one.sequence <= maximum and self.sees(client, one)]
        of_others = [one.operation["id"] for one in inside if one.operation["nodeId"] != client.node_id]
        sent = set(ids)
        due = [one.operation["id"] for one in inside if one.operation["id"] in sent]
        if ids != due or [one for one in ids if self.by_id[one].operation["nodeId"] != client.node_id] != of_others:
            self.complain(
                f"{client.node_id} is sent {ids} of ({base}, {maximum}], expected {of_others} and perhaps own"
            )

    def sees(self, client: Client, logged: Logged) -> bool:
        """Whether a client may be sent an operation."""
        return may_see(client.user or "visitor", logged.operation["collection"], logged.owner)

    def saw(self, client: Client, message: Sent) -> None:
        """Presence stays among those who see the same."""
        self._trace.note(client.node_id, f"hears of {len(message.get('states', {}))} present")
        for state in message.get("states", {}).values():
            if state is not None and told_scope(state["user"]["name"]) != told_scope(client.user or "visitor"):
                self.complain(f"{client.node_id} hears of the presence of {state['user']['name']}")

    def logged_event(self, event: str, level: str, error: object) -> None:
        """The daemon has written to its log; `error` is True for the exception at hand."""
        self._trace.note("log", f"{level} {event}")
        error = sys.exception() if error is True else error
        if isinstance(error, BaseException):
            self._trace.explain("".join(traceback.format_exception(error)))
        if "crashed" in event or event in ("writer.batch_failed", "http.failed", "store.refused"):
            self.complain(f"the daemon logs {event}")

    @property
    def largest(self) -> dict[str, int]:
        """The largest sequence number stored of each node."""
        return {node_id: number for node_id, number in self._largest.items() if number}


def _as_sent(stored: Operation) -> Sent:
    sent: Sent = {
        "id": stored.id,
        "nodeId": stored.node_id,
        "type": stored.type,
        "collection": stored.collection,
        "recordId": stored.record_id,
        "data": json.loads(bytes(stored.data)),
        "previousData": json.loads(bytes(stored.previous_data)),
        "timestamp": {
            "wallTime": stored.timestamp.wall_time,
            "logical": stored.timestamp.logical,
            "nodeId": stored.timestamp.node_id,
        },
        "sequenceNumber": stored.sequence_number,
        "causalDeps": list(stored.causal_deps),
        "schemaVersion": stored.schema_version,
    }
    if isinstance(stored.atomic_ops, Raw):
        sent["atomicOps"] = json.loads(bytes(stored.atomic_ops))
    for name, value in (("transactionId", stored.transaction_id), ("mutationName", stored.mutation_name)):
        if not isinstance(value, UnsetType):
            sent[name] = value
    return sent
