"""Scopes and query subsets: `scopes-resolve`, `scopes-ops`, `scopes-subsets` and, over sockets on every store,
`scopes-session`: with fields that scopes are decided by declared, without such a declaration, and without a schema.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from kora_daemon.apply.authority import Authority, is_outside
from kora_daemon.apply.pipeline import ApplyRules, Pipeline
from kora_daemon.apply.work import Work
from kora_daemon.auth.scope_maps import checked_scopes
from kora_daemon.auth.token import TokenAuthProvider
from kora_daemon.errors import AuthUnavailable
from kora_daemon.model.operation import Operation
from kora_daemon.model.schema import Schema
from kora_daemon.model.scope import accepted_scope, effective_scopes, may_read, may_write
from kora_daemon.model.view import View
from kora_daemon.protocol.handshake import clean_scope, clean_subsets
from kora_daemon.server.sync_server import ServerOptions
from kora_daemon.store.contract import Store
from kora_daemon.store.memory import MemoryStore
from tests.support.log import RECEIVED_AT_MS
from tests.support.network import Client, Host, connected, running_server
from tests.support.records import bring_to, schema_of
from tests.support.stores import RECORD_STORES

VECTORS = Path(__file__).parent / "data" / "vectors"
Case = dict[str, Any]


def read(name: str, member: str = "cases") -> list[Case]:
    cases: list[Case] = json.loads((VECTORS / f"{name}.json").read_text("utf-8"))[member]
    return cases


RESOLVE, OPS, SESSIONS = read("scopes-resolve"), read("scopes-ops"), read("scopes-session")
MATCH, CLEAN = read("scopes-subsets", "match"), read("scopes-subsets", "clean")


def by_name(case: Case) -> str:
    return str(case["name"])


def test_no_case_was_lost() -> None:
    assert (len(RESOLVE), len(OPS), len(MATCH), len(CLEAN), len(SESSIONS)) == (59, 106, 41, 9, 14)
    assert len(PLAYED) == 3 * 14 - 1


def exactly(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


@pytest.mark.parametrize("case", RESOLVE, ids=by_name)
def test_the_scopes_that_a_session_lives_with(case: Case) -> None:
    expect = case["expect"]
    if expect.get("error"):
        with pytest.raises(AuthUnavailable):
            checked_scopes(case["auth"])
        return
    scopes = effective_scopes(checked_scopes(case["auth"]), clean_scope(case.get("handshake")))
    assert exactly(scopes) == exactly(expect["scopes"])
    assert exactly(None if scopes is None else accepted_scope(scopes)) == exactly(expect["accepted_scope"])


def carried(operation: Case) -> dict[str, Any]:
    return {**(operation["previousData"] or {}), **(operation["data"] or {})}


@pytest.mark.parametrize("case", OPS, ids=by_name)
def test_an_operation_against_scopes(case: Case) -> None:
    operation, scopes, record, expect = case["op"], case["scopes"], case["record"], case["expect"]
    fields = carried(operation)
    collection = operation["collection"]
    assert may_read(scopes, collection, fields, record) is expect["read"]
    rule = View(scopes).rule(collection)
    assert (rule is not None and rule.shows(fields, record)) is expect["read"]
    missing = [] if rule is None else sorted(rule.fields - fields.keys())
    assert missing == sorted(expect["missing"])
    assert (
        may_write(
            scopes,
            collection,
            record=record,
            data=operation["data"] or {},
            previous=operation["previousData"] or {},
            replaces=operation["type"] == "insert",
        )
        is expect["write"]
    )


@pytest.mark.parametrize("case", OPS, ids=by_name)
def test_an_upload_against_scopes_and_a_stored_record(case: Case) -> None:
    operation, record = case["op"], case["record"]
    store = MemoryStore()
    store.open()
    pipeline = Pipeline(store.node_id)
    fields = {name: value for name, value in (record or {}).items() if name not in ("id", "_deleted")}
    with store.transaction() as tx:
        if record is not None:
            tx.append([as_operation({**operation, "type": "insert", "data": fields, "previousData": None}, "0")], 1)
            if record.get("_deleted"):
                tx.append([as_operation({**operation, "type": "delete", "data": None, "previousData": None}, "1")], 1)
        new = as_operation(operation, "2")
        (outcome,) = pipeline.apply_batches(tx, [[new]], RECEIVED_AT_MS, [Authority("n", case["scopes"])])
    assert [one.code for one in outcome.rejections] == ([] if case["expect"]["write"] else ["SCOPE_VIOLATION"])
    if record is not None and case["scopes"] is not None:
        with store.transaction() as tx:
            verdict = is_outside(Work(tx, 1), case["scopes"], new, operation["data"])
        assert isinstance(verdict, bool)


def as_operation(members: Mapping[str, Any], number: str) -> Operation:
    return msgspec.json.decode(
        json.dumps(
            {
                "id": f"op-{number}",
                "nodeId": "n",
                "timestamp": {"wallTime": int(number) + 1, "logical": 0, "nodeId": "n"},
                "sequenceNumber": int(number) + 1,
                "causalDeps": [],
                "schemaVersion": 1,
                **{name: members[name] for name in ("type", "collection", "recordId", "data", "previousData")},
            }
        ),
        type=Operation,
    )


@pytest.mark.parametrize("case", MATCH, ids=by_name)
def test_an_operation_against_subsets(case: Case) -> None:
    operation = case["op"]
    rule = View(None, clean_subsets(case["subsets"])).rule(operation["collection"])
    assert (rule is not None and rule.shows(carried(operation), case["record"])) is case["expect"]


@pytest.mark.parametrize("case", CLEAN, ids=exactly)
def test_what_is_kept_of_a_list_of_subsets(case: Case) -> None:
    kept = [{"collection": collection, "where": where} for collection, where in clean_subsets(case["subsets"])]
    assert exactly(kept) == exactly(case["expect"])


# Sessions

SETUPS = ("declared", "undeclared", "log alone")
NEEDS_SCHEMA = "two scope fields, value types"
"""Without a schema nobody knows that a field that was never set is one, and null."""
PLAYED = [
    (case, setup) for case in SESSIONS for setup in SETUPS if (case["name"], setup) != (NEEDS_SCHEMA, "log alone")
]


def schema_for(case: Case, setup: str) -> Schema | None:
    if setup == "log alone":
        return None
    fields = {name: collection["fields"] for name, collection in case["schema"]["collections"].items()}
    schema = schema_of(1, **fields)
    if setup == "declared":
        scoped: dict[str, set[str]] = {}
        for session in case["sessions"]:
            maps = (session["auth"].get("scopes"), session["handshake"].get("syncScope"))
            for scopes in maps:
                for name, where in (scopes or {}).items():
                    scoped.setdefault(name, set()).update(field for field in where if field != "__readonly")
        schema = schema.with_scopes({name: sorted(one) for name, one in scoped.items() if name in fields})
    return schema


class Peer:
    """A session of a case."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.delivered: list[str] = []

    async def next(self) -> dict[str, Any]:
        message = await self.client.hear()
        if message["type"] == "operation-batch":
            await self.client.acknowledge(message)
            self.delivered += [operation["id"] for operation in message["operations"]]
        return message

    async def upload(self, operations: list[Case]) -> list[Case]:
        message_id = await self.client.upload(*operations)
        refused: list[Case] = []
        while True:
            message = await self.next()
            if message["type"] == "operation-rejected":
                assert message["retriable"] is False
                refused.append({"id": message["operationId"], "code": message["code"]})
            elif message["type"] == "acknowledgment" and message["acknowledgedMessageId"] == message_id:
                return refused


@pytest.mark.parametrize("kind", RECORD_STORES)
@pytest.mark.parametrize(("case", "setup"), PLAYED, ids=lambda part: part if isinstance(part, str) else by_name(part))
async def test_whole_sessions(case: Case, kind: str, setup: str, tmp_path: Path) -> None:
    store = RECORD_STORES[kind](tmp_path)
    schema = schema_for(case, setup)
    seed(store, schema, case["seed"])
    contexts = {session["name"]: session["auth"] for session in case["sessions"]}
    auth = TokenAuthProvider(contexts.get, shared_data=True)
    async with running_server(store, auth, ServerOptions(apply=ApplyRules(schema))) as host:
        await play(host, store, case)


async def play(host: Host, store: Store, case: Case) -> None:
    async with trio.open_nursery() as nursery:
        peers: dict[str, Peer] = {}
        for session in case["sessions"]:
            peer = await nursery.start(keep_connected, host.url)
            peers[session["name"]] = peer
            handshake = {"authToken": session["name"], **session["handshake"]}
            response = await peer.client.shake_hands(session["node_id"], 0, **handshake)
            assert response["accepted"] is True
            assert exactly(response.get("acceptedScope")) == exactly(session["expect"]["accepted_scope"])
            while not (message := await peer.next())["isFinal"]:
                pass
            assert message["type"] == "operation-batch"
            assert sorted(peer.delivered) == session["expect"]["operations"]
            peer.delivered.clear()
        for step in case["steps"]:
            before = store.frontier()
            refused = await peers[step["session"]].upload(step["upload"])
            expect = step["expect"]
            assert refused == expect["rejected"]
            assert [entry.operation.id for entry in store.entries_after(before, 100)] == expect["stored"]
            for name, wanted in expect["relayed"].items():
                other = peers[name]
                while len(other.delivered) < len(wanted):
                    await other.next()
                # What was not to come would have come before the answer to this.
                assert await other.upload([]) == []
                assert sorted(other.delivered) == wanted
                other.delivered.clear()
            assert peers[step["session"]].delivered == []
        nursery.cancel_scope.cancel()


async def keep_connected(url: str, task_status: trio.TaskStatus[Peer]) -> None:
    async with connected(url) as client:
        task_status.started(Peer(client))
        await trio.sleep_forever()


def seed(store: Store, schema: Schema | None, operations: list[Case]) -> None:
    store.open()
    if schema is not None:
        bring_to(store, schema)
    pipeline = Pipeline(store.node_id, ApplyRules(schema))
    batch = [msgspec.json.decode(json.dumps(one), type=Operation) for one in operations]
    with store.transaction() as tx:
        pipeline.apply_batches(tx, [batch], RECEIVED_AT_MS)
