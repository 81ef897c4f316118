"""Records and writes for the server's own side, everything or within scopes."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
import trio

from kora_daemon.apply.pipeline import ApplyRules
from kora_daemon.apply.trusted import ConditionalWrite, Mutation
from kora_daemon.auth.none import NoAuthProvider
from kora_daemon.errors import StoreError
from kora_daemon.model.record import QueryError, Record, RecordQuery
from kora_daemon.server.data_plane import BlockingDataPlane, DataPlane
from kora_daemon.server.options import ServerOptions
from kora_daemon.server.sync_server import SyncServer
from kora_daemon.store.memory import MemoryStore
from tests.support.records import key, schema_of
from tests.support.stores import RECORD_STORES

SCHEMA = schema_of(
    1, todos={"owner": "string", "n": "number", "done": "boolean", "tags": "array"}, logs={"text": "string"}
)
TODOS: list[dict[str, Any]] = [
    {"id": "a", "owner": "alice", "n": 1, "done": True, "tags": ["x"]},
    {"id": "b", "owner": "bob", "n": 1, "done": True, "tags": ["x"]},
    {"id": "c", "owner": "alice", "n": 2, "done": False},
    {"id": "d", "n": 1},
]


@pytest.fixture(params=RECORD_STORES)
async def data(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DataPlane]:
    """With the todos above; "e" of Alice's is deleted."""
    server = SyncServer(
        RECORD_STORES[request.param](tmp_path), NoAuthProvider(), ServerOptions(apply=ApplyRules(SCHEMA))
    )
    async with trio.open_nursery() as nursery:
        await server.start(nursery)
        for one in TODOS:
            fields = {name: value for name, value in one.items() if name != "id"}
            await server.apply(Mutation("insert", "todos", one["id"], fields))
        await server.apply(Mutation("insert", "todos", "e", {"owner": "alice"}))
        await server.apply(Mutation("delete", "todos", "e"))
        await server.apply(Mutation("insert", "logs", "l", {"text": "x"}))
        yield server.data
        await server.stop()


SHOWN: list[tuple[dict[str, Any] | None, RecordQuery, str]] = [
    ({}, RecordQuery(), "abcd"),
    ({"owner": "alice"}, RecordQuery(), "ac"),
    ({"owner": "alice"}, RecordQuery(include_deleted=True), "ace"),
    ({"owner": "alice"}, RecordQuery({"n": 1}), "a"),
    ({"owner": "alice"}, RecordQuery({"owner": "alice"}), "ac"),
    ({"owner": "alice"}, RecordQuery({"owner": "bob"}), ""),
    ({"owner": "alice"}, RecordQuery({"owner": None}), ""),
    ({"owner": "alice"}, RecordQuery(order_by="n", descending=True, limit=1), "c"),
    ({"owner": "alice"}, RecordQuery(after="a"), "c"),
    ({"owner": "alice", "n": 1.0}, RecordQuery(), "a"),
    ({"owner": None}, RecordQuery(), "d"),
    ({"owner": "ALICE"}, RecordQuery(), ""),
    ({"n": "1"}, RecordQuery(), ""),
    ({"n": True}, RecordQuery(), ""),
    ({"done": True}, RecordQuery(), "ab"),
    ({"done": 1}, RecordQuery(), ""),
    ({"tags": "x"}, RecordQuery(), ""),
    ({"id": "b"}, RecordQuery(), "b"),
    ({"id": "b"}, RecordQuery({"id": "a"}), ""),
    ({"owner": "bob", "__readonly": True}, RecordQuery(), "b"),
    (None, RecordQuery(), ""),
]


async def test_reads_show_what_lies_in_the_scope(data: DataPlane) -> None:
    assert len(SHOWN) == 21
    for scope, query, found in SHOWN:
        within = data.within({"logs": {}} if scope is None else {"todos": scope})
        assert within.reaches("todos") == (scope is not None)
        assert ids(await within.query("todos", query)) == found, (scope, query)
        assert await within.scan("todos", query, ids) == found, (scope, query)
        if query == RecordQuery(query.where):
            assert await within.count("todos", query.where) == len(found), (scope, query)
        if query == RecordQuery():
            alone = [await within.find_record("todos", one["id"]) for one in TODOS]
            assert ids(filter(None, alone)) == found, scope


def ids(records: Iterable[Record]) -> str:
    return "".join(one["id"] for one in records)


async def test_one_record_is_found_when_it_lies_in_the_scope(data: DataPlane) -> None:
    alice = data.within({"todos": {"owner": "alice"}})
    assert await alice.find_record("todos", "a") == await data.find_record("todos", "a") is not None
    for record_id in ("b", "d", "e", "nowhere"):
        assert await alice.find_record("todos", record_id) is None
    assert await alice.find_record("logs", "l") is None
    assert await data.find_record("logs", "l") is not None


async def test_what_the_scopes_hide_can_not_be_asked_for_in_a_wrong_way_either(data: DataPlane) -> None:
    within = data.within({"logs": {}})
    for call in (
        within.query("unknown"),
        within.count("unknown"),
        within.find_record("unknown", "x"),
        within.query("todos", RecordQuery({"unknown": 1})),
        within.query("todos", RecordQuery(limit=-1)),
    ):
        with pytest.raises(QueryError):
            await call


async def test_writes_are_within_the_scopes_too(data: DataPlane) -> None:
    alice = data.within({"todos": {"owner": "alice"}})
    refused = await alice.apply(Mutation("update", "todos", "b", {"n": 5}))
    assert refused.rejection is not None
    assert refused.rejection.code == "SCOPE_VIOLATION"
    assert (await alice.apply(Mutation("update", "todos", "a", {"n": 5}))).result == "applied"
    hidden = ConditionalWrite(key("b"), {"n": {"$eq": 1}}, also=[Mutation("update", "todos", "a", {"n": 6})])
    assert (await alice.apply_conditional(hidden)).result == "skipped"
    assert (await data.apply_conditional(hidden)).result == "applied"


MALFORMED: list[tuple[Any, str]] = [
    (None, "nothing"),
    ([], "expected a map"),
    ({"todos": []}, "expected a map of fields"),
    ({"todos": None}, "expected a map of fields"),
    ({"todos": {"owner": ["alice"]}}, "expected a text"),
    ({"todos": {"owner": {"$in": ["alice"]}}}, "expected a text"),
    ({"todos": {"n": float("nan")}}, "expected a text"),
    ({"todos": {"__readonly": 1}}, "not true or false"),
    ({"todos": {"ownr": "alice"}}, "no field 'ownr'.*owner"),
    ({"todos": {"_deleted": 0}}, "no field '_deleted'"),
    ({"todo": {"owner": "alice"}}, "no collection 'todo'"),
]


async def test_what_is_no_scope_map_is_refused(data: DataPlane) -> None:
    for scopes, words in MALFORMED:
        with pytest.raises(ValueError, match=words):
            data.within(scopes)


async def test_scopes_can_not_be_put_upon_scopes(data: DataPlane) -> None:
    with pytest.raises(ValueError, match="already"):
        data.within({"todos": {}}).within({"todos": {"owner": "bob"}})


async def test_code_in_threads_has_the_same(data: DataPlane) -> None:
    def work() -> list[Any]:
        blocking = BlockingDataPlane(data).within({"todos": {"owner": "alice"}})
        applied = blocking.apply(Mutation("update", "todos", "c", {"n": 7}))
        only_if = ConditionalWrite(key("c"), {"n": {"$eq": 7}}, {"n": 8})
        return [
            applied.result,
            blocking.apply_conditional(only_if).result,
            [one["id"] for one in blocking.query("todos", RecordQuery({"n": 8}))],
            blocking.find_record("todos", "b"),
            blocking.count("todos"),
        ]

    assert await trio.to_thread.run_sync(work) == ["applied", "applied", ["c"], None, 2]


async def test_a_thread_nobody_waits_for_ends_with_its_next_call(data: DataPlane) -> None:
    blocking, ended = BlockingDataPlane(data), trio.Event()
    token = trio.lowlevel.current_trio_token()
    begun, go_on = trio.Event(), threading.Event()

    def work() -> None:
        try:
            token.run_sync_soon(begun.set)
            go_on.wait(10)
            blocking.apply(Mutation("insert", "todos", "late", {}))
        finally:
            token.run_sync_soon(ended.set)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trio.to_thread.run_sync(work, abandon_on_cancel=True))
        await begun.wait()
        nursery.cancel_scope.cancel()
    go_on.set()
    with trio.fail_after(10):
        await ended.wait()
    assert await data.find_record("todos", "late") is None


class Picky(MemoryStore):
    """Can't hold records of one name."""

    def transaction(self, locks: Any = ()) -> Any:
        if any(one.record_id == "bad" for one in locks):
            raise StoreError("it is too large")
        return super().transaction(locks)


async def test_what_the_store_can_not_hold_is_refused_and_no_trouble_of_the_store() -> None:
    async with trio.open_nursery() as nursery:
        server = SyncServer(Picky(), NoAuthProvider(), ServerOptions(apply=ApplyRules(SCHEMA)))
        await server.start(nursery)
        outcome = await server.apply_conditional(ConditionalWrite(key("bad"), {}))
        assert outcome.rejection is not None
        assert (outcome.rejection.code, outcome.rejection.record_id) == ("INVALID_OPERATION", "bad")
        assert server.store_failure is None
        await server.stop()
