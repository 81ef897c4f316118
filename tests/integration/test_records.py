"""Records behind a server on a real socket: tables, refusals, cascades, trusted writes, subsets, validators."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from copy import deepcopy
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import trio

from kora_daemon.apply.pipeline import ApplyRules
from kora_daemon.apply.predicates import MalformedPredicate
from kora_daemon.apply.trusted import ConditionalWrite, Mutation, Refusal
from kora_daemon.auth.contract import AuthContext, token_digest
from kora_daemon.auth.none import NoAuthProvider
from kora_daemon.auth.token import StaticToken, StaticTokenProvider
from kora_daemon.model.record import QueryError, RecordKey, RecordQuery
from kora_daemon.protocol.uploads import UploadLimits
from kora_daemon.server import validation
from kora_daemon.server.sync_server import ServerOptions, SyncServer
from kora_daemon.server.validation import IGNORE, VALIDATOR_THREADS, Reject, ValidationContext
from kora_daemon.store.contract import Store
from kora_daemon.store.memory import MemoryStore
from kora_daemon.store.sqlite import SqliteStore
from tests.support.app import Device, Sent, device, places
from tests.support.judging import constraint, relation, with_constraints, with_relations
from tests.support.network import Host, eventually, running_server
from tests.support.records import schema_of

SCHEMA = with_constraints(
    with_relations(
        schema_of(
            users={"email": "string", "name": "string"},
            lists={"name": "string"},
            todos={"title": "string", "list": "string", "n": "number", "done": "boolean", "user": "string"},
            notes={"todo": "string"},
            locks={"list": "string"},
        ),
        relation("todoOfList", "todos.list", "lists"),
        relation("todoOfUser", "todos.user", "users", "set-null"),
        relation("noteOfTodo", "notes.todo", "todos"),
        relation("lockOfList", "locks.list", "lists", "restrict"),
    ),
    users=[constraint("unique", "email")],
)
OPTIONS = ServerOptions(apply=ApplyRules(SCHEMA))


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else sqlite(tmp_path)


def sqlite(folder: Path) -> SqliteStore:
    return SqliteStore(folder / "kora.db", durability="normal")


async def rows(host: Host, collection: str = "todos", **where: Any) -> dict[str, dict[str, Any]]:
    """The live records by id, without what is null."""
    found = await host.server.query_collection(collection, RecordQuery(where))
    return {
        str(record["id"]): {name: value for name, value in record.items() if value is not None and name != "id"}
        for record in found
    }


def plain(records: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Without the times."""
    return {one: {n: value for n, value in record.items() if n[0] != "_"} for one, record in records.items()}


# -- tables -----------------------------------------------------------------------------------------------------------


async def test_rows_follow_what_devices_upload(store: Store) -> None:
    async with running_server(store, options=OPTIONS) as host, device(host.url, "a") as a:
        first, second = a.insert("todos", "t", title="x", n=1, done=False), a.insert("todos", "u", title="y")
        await a.takes(first, second)
        assert await rows(host) == {
            "t": {"title": "x", "n": 1, "done": False, **_times(first)},
            "u": {"title": "y", **_times(second)},
        }
        changed = a.update("todos", "t", title="z", done=True, unknown=[1])
        await a.takes(changed, a.delete("todos", "u"))
        assert await rows(host) == {"t": {"title": "z", "n": 1, "done": True, **_times(first, changed)}}
        back = a.update("todos", "u", n=2)
        await a.takes(back)
        assert plain(await rows(host, n=2)) == {"u": {"title": "y", "n": 2}}
        assert await host.server.count_collection("todos", {"done": True}) == 1
        assert await host.server.find_record("todos", "nobody") is None
        with pytest.raises(QueryError, match="nope"):
            await host.server.count_collection("todos", {"nope": 1})


def _times(first: Sent, last: Sent | None = None) -> dict[str, int]:
    created = first["timestamp"]["wallTime"]
    return {"_created_at": created, "_updated_at": (last or first)["timestamp"]["wallTime"]}


async def test_increments_of_two_devices_add_up(store: Store) -> None:
    def increment(who: Device, result: int) -> Sent:
        atomic = {"n": {"type": "increment", "value": 1}}
        return who.write("update", "todos", "t", {"n": result}, atomicOps=atomic)

    async with (
        running_server(store, options=OPTIONS) as host,
        device(host.url, "a") as a,
        device(host.url, "b") as b,
    ):
        await a.takes(a.insert("todos", "t", n=10))
        await a.takes(increment(a, 11))
        await b.takes(increment(b, 11), increment(b, 12))
        late = increment(a, 12)
        late["timestamp"] = {**late["timestamp"], "wallTime": late["timestamp"]["wallTime"] - 60_000}
        await a.takes(late)
        # The late one is older than the insert, which replaces whatever was before.
        assert plain(await rows(host)) == {"t": {"n": 13}}


async def test_rows_of_operations_that_arrive_out_of_order(store: Store) -> None:
    async with running_server(store, options=OPTIONS) as host, device(host.url, "a") as a:
        sent = [a.insert("todos", "t", title="1"), a.update("todos", "t", title="2", n=2), a.delete("todos", "gone")]
        sent += [a.insert("todos", "gone", title="x"), a.update("todos", "t", title="3")]
        sent[3]["timestamp"]["logical"] -= 2
        sent[3]["timestamp"]["wallTime"] -= 5
        for one in reversed(sent):
            await a.takes(one)
        assert plain(await rows(host)) == {"t": {"title": "3", "n": 2}}


async def test_a_collection_outside_the_schema_is_stored_and_passed_on(store: Store) -> None:
    async with (
        running_server(store, options=OPTIONS) as host,
        device(host.url, "a") as a,
        device(host.url, "b") as b,
    ):
        await a.takes(a.insert("constructor", "x", title=5))
        assert places(await b.hears(1)) == ["insert constructor/x"]
        assert await host.server.materialize_collection("constructor") == [{"id": "x", "title": 5}]
        with pytest.raises(QueryError, match="constructor"):
            await host.server.query_collection("constructor")


# -- refusals ---------------------------------------------------------------------------------------------------------


async def test_refused_operations_are_told_and_the_rest_of_the_batch_is_stored(store: Store) -> None:
    async with (
        running_server(store, options=OPTIONS) as host,
        device(host.url, "a") as a,
        device(host.url, "b") as b,
    ):
        await a.takes(a.insert("users", "u", email="x"), a.insert("lists", "l"), a.insert("locks", "k", list="l"))
        batch = [
            a.insert("todos", "t1", title="1"),
            a.insert("todos", "t2", title=2),
            a.insert("users", "v", email="x"),
            a.insert("todos", "t3", n="3"),
            a.delete("lists", "l"),
            a.insert("todos", "t4", title="4"),
        ]
        assert await a.send(*batch) == [
            _rejected(batch[1], "INVALID_VALUE", "todos.title must be a text"),
            _rejected(batch[2], "CONSTRAINT_VIOLATION", "another record of users has the same email"),
            _rejected(batch[3], "INVALID_VALUE", "todos.n must be a number"),
            _rejected(batch[4], "REFERENTIAL_INTEGRITY", "a record of locks points at this one (lockOfList)"),
        ]
        assert (await rows(host)).keys() == {"t1", "t4"}
        assert (await rows(host, "users")).keys() == {"u"}
        heard = await b.hears(5)
        assert [one["id"] for one in heard] == ["a/1", "a/2", "a/3", "a/4", "a/9"]
        # Sent again, the stored ones are known, and the others are judged again.
        await a.takes(batch[0], batch[5])
        assert [one["code"] for one in await a.send(*batch)] == [
            "INVALID_VALUE",
            "CONSTRAINT_VIOLATION",
            "INVALID_VALUE",
            "REFERENTIAL_INTEGRITY",
        ]
        assert await b.hears_nothing_more()


class Anything:
    """Equal to whatever is there."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True


def _rejected(operation: Sent, code: str, message: str) -> dict[str, Any]:
    return {
        "type": "operation-rejected",
        "messageId": Anything(),
        "operationId": operation["id"],
        "collection": operation["collection"],
        "recordId": operation["recordId"],
        "code": code,
        "message": message,
        "retriable": False,
    }


async def test_a_device_of_the_old_generation_gets_errors_and_the_acknowledgment(store: Store) -> None:
    async with running_server(store, options=OPTIONS) as host, device(host.url, "old", None) as old:
        said = await old.send(old.insert("todos", "t", title=5), old.insert("todos", "u", title="u"))
        assert said == [
            {
                "type": "error",
                "messageId": Anything(),
                "code": "INVALID_VALUE",
                "message": "todos.title must be a text",
                "retriable": False,
            }
        ]
        assert (await rows(host)).keys() == {"u"}


async def test_an_operation_of_another_schema_version_may_have_other_values(store: Store) -> None:
    async with running_server(store, options=OPTIONS) as host, device(host.url, "a") as a:
        await a.takes(a.write("insert", "todos", "t", {"title": 5, "n": 1}, schemaVersion=2))
        assert plain(await rows(host)) == {"t": {"n": 1}}


async def test_devices_that_race_for_a_value_have_one_winner(store: Store) -> None:
    racers = 12
    rounds = 4
    async with running_server(store, options=OPTIONS) as host, AsyncExitStack() as stack:
        devices = [await stack.enter_async_context(device(host.url, f"racer-{n}")) for n in range(racers)]
        for race in range(rounds):
            winners: list[str] = []

            async def run(one: Device, race: int = race, winners: list[str] = winners) -> None:
                refused = await one.send(one.insert("users", f"{one.node_id}-{race}", email=f"{race}@x.test"))
                assert [each["code"] for each in refused] in ([], ["CONSTRAINT_VIOLATION"])
                if not refused:
                    winners.append(f"{one.node_id}-{race}")

            async with trio.open_nursery() as nursery:
                for one in devices:
                    nursery.start_soon(run, one)
            assert len(winners) == 1
            assert (await rows(host, "users", email=f"{race}@x.test")).keys() == set(winners)
        assert host.server.get_status().total_operations == rounds


# -- cascades ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [1, 2])
async def test_everybody_hears_of_cascades_once_the_uploader_included(store: Store, levels: int) -> None:
    options = ServerOptions(apply=ApplyRules(SCHEMA, levels))
    effects = ["delete todos/t1", "delete todos/t2", "delete notes/n"][: levels + 1]
    async with (
        running_server(store, options=options) as host,
        device(host.url, "a") as a,
        device(host.url, "b") as b,
        device(host.url, "old", None) as old,
    ):
        todos = [a.insert("todos", one, list="l") for one in ("t2", "t1", "t3")]
        todos[2]["data"]["list"] = "other"
        before = [a.insert("lists", "l"), *todos, a.insert("notes", "n", todo="t1")]
        await a.takes(*before)
        await a.takes(a.delete("lists", "l"), a.insert("lists", "after"))
        assert places(await a.hears(len(effects))) == effects
        everything = [*places(before), "delete lists/l", *effects, "insert lists/after"]
        for one in (b, old):
            assert places(await one.hears(len(everything))) == everything
        for one in (a, b, old):
            assert await one.hears_nothing_more()
        assert (await rows(host)).keys() == {"t3"}
        node_id = host.server.get_status().node_id
        assert {one["nodeId"] for one in a.heard} == {node_id}
        async with device(host.url, "late") as late:
            assert places(late.heard) == everything


async def test_references_are_emptied_for_everybody(store: Store) -> None:
    async with (
        running_server(store, options=OPTIONS) as host,
        device(host.url, "a") as a,
        device(host.url, "b") as b,
    ):
        await a.takes(a.insert("users", "u", email="x"), a.insert("todos", "t", user="u", title="x"))
        await b.hears(2)
        await b.takes(b.delete("users", "u"))
        effect = (await b.hears(3))[-1]
        assert (effect["data"], effect["previousData"]) == ({"user": None}, {"user": "u"})
        assert effect["causalDeps"] == ["b/1"]
        assert places(await a.hears(2)) == ["delete users/u", "update todos/t"]
        assert plain(await rows(host)) == {"t": {"title": "x"}}


# -- trusted writes ---------------------------------------------------------------------------------------------------


async def test_a_write_of_the_server_reaches_all_devices_live(store: Store) -> None:
    async with (
        running_server(store, options=OPTIONS) as host,
        device(host.url, "a") as a,
        device(host.url, "old", None) as old,
    ):
        outcome = await host.server.apply(Mutation("insert", "todos", None, {"title": "x", "n": 1}))
        (record_id,) = outcome.record_ids
        atomic = {"n": {"type": "increment", "value": 2}}
        await host.server.apply(Mutation("update", "todos", record_id, {"title": "y"}, atomic))
        outcome = await host.server.apply(Mutation("delete", "todos", record_id))
        (entry,) = outcome.applied
        node_id = host.server.get_status().node_id
        for one in (a, old):
            insert, update, delete = await one.hears(3)
            assert (insert["nodeId"], insert["recordId"], insert["data"]) == (
                node_id,
                record_id,
                {"title": "x", "n": 1},
            )
            assert (update["data"], update["atomicOps"]) == ({"title": "y", "n": 3}, atomic)
            assert update["previousData"] == {"title": "x", "n": 1}
            assert (delete["id"], delete["previousData"]) == (entry.operation.id, {"title": "y", "n": 3})
            assert [each["sequenceNumber"] for each in one.heard] == [1, 2, 3]
        assert await rows(host) == {}


async def test_a_write_of_the_server_is_the_newest_though_the_device_was_fast(store: Store) -> None:
    async with running_server(store, options=OPTIONS) as host, device(host.url, "a") as a:
        fast = a.insert("todos", "t", n=1)
        fast["timestamp"]["wallTime"] += 40_000
        await a.takes(fast)
        await host.server.apply(Mutation("update", "todos", "t", {"n": 2}))
        assert plain(await rows(host)) == {"t": {"n": 2}}
        (heard,) = await a.hears(1)
        assert heard["timestamp"]["wallTime"] >= fast["timestamp"]["wallTime"]


async def test_a_refused_write_of_the_server_is_an_answer(store: Store) -> None:
    async with running_server(store, options=OPTIONS) as host, device(host.url, "a") as a:
        await a.takes(a.insert("users", "u", email="x"))
        outcome = await host.server.apply(Mutation("insert", "users", "v", {"email": "x"}))
        assert outcome.result == "skipped"
        assert outcome.rejection is not None
        assert outcome.rejection.code == "CONSTRAINT_VIOLATION"
        assert await a.hears_nothing_more()
        assert host.server.get_status().total_operations == 1


async def test_conditional_writes_of_many_tasks_never_oversell(store: Store) -> None:
    async with running_server(store, options=OPTIONS) as host, device(host.url, "a") as a:
        await a.takes(a.insert("todos", "event", n=0))
        results: list[str] = []

        async def book(number: int) -> None:
            write = ConditionalWrite(
                RecordKey("todos", "event"),
                {"n": {"$lt": 5}},
                atomic={"n": {"type": "increment", "value": 1}},
                also=[Mutation("insert", "notes", f"seat-{number}", {"todo": "event"})],
                refusal=Refusal("SOLD_OUT", "no more seats"),
            )
            outcome = await host.server.apply_conditional(write)
            results.append(outcome.rejection.code if outcome.rejection else outcome.result)

        async with trio.open_nursery() as nursery:
            for number in range(12):
                nursery.start_soon(book, number)
        assert sorted(results) == ["SOLD_OUT"] * 7 + ["applied"] * 5
        assert plain(await rows(host)) == {"event": {"n": 5}}
        assert await host.server.count_collection("notes") == 5
        assert places(await a.hears(10))[::2] == ["update todos/event"] * 5


async def test_a_conditional_write_all_of_which_must_happen_leaves_nothing(store: Store) -> None:
    async with running_server(store, options=OPTIONS) as host, device(host.url, "a") as a:
        await a.takes(a.insert("users", "u", email="x"), a.insert("todos", "t", n=1))
        taken = Mutation("insert", "users", "v", {"email": "x"})
        write = ConditionalWrite(RecordKey("todos", "t"), {"n": {"$eq": 1}}, {"n": 2}, also=[taken])
        outcome = await host.server.apply_conditional(write)
        assert outcome.rejection is not None
        assert outcome.rejection.code == "CONSTRAINT_VIOLATION"
        with pytest.raises(MalformedPredicate):
            await host.server.apply_conditional(ConditionalWrite(RecordKey("todos", "t"), {"n": {"$no": 1}}))
        assert plain(await rows(host)) == {"t": {"n": 1}}
        assert await a.hears_nothing_more()


async def test_writes_of_the_server_and_uploads_do_not_disturb_each_other(store: Store) -> None:
    async with running_server(store, options=OPTIONS) as host, device(host.url, "a") as a:

        async def upload() -> None:
            for number in range(30):
                await a.takes(a.insert("todos", f"device-{number}", n=number))

        async def write() -> None:
            for number in range(30):
                await host.server.apply(Mutation("insert", "todos", f"server-{number}", {"n": number}))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(upload)
            nursery.start_soon(write)
        assert [one["recordId"] for one in await a.hears(30)] == [f"server-{number}" for number in range(30)]
        assert await host.server.count_collection("todos") == 60


# -- subsets ----------------------------------------------------------------------------------------------------------


def subset(collection: str = "todos", **where: Any) -> dict[str, Any]:
    return {"syncQueries": [{"collection": collection, "where": where}]}


def of(operations: list[Sent]) -> list[str]:
    return [one["id"] for one in operations]


async def move_about(a: Device) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Todos of the lists x and y, changed in part, moved, deleted; which operations each list's view shows.

    First as they happen, then to who comes later: what says nothing of a list goes where its record is now.
    """
    one, two = a.insert("todos", "t1", list="x", title="1"), a.insert("todos", "t2", list="y", title="2")
    await a.takes(one, two, plain_one := a.insert("todos", "t3", title="no list"))
    partly_x, partly_y = a.update("todos", "t1", title="1a"), a.update("todos", "t2", n=2)
    await a.takes(partly_x, partly_y)
    moved = a.write("update", "todos", "t1", {"list": "y"}, previousData={"list": "x"})
    await a.takes(moved)
    now_y = a.update("todos", "t1", title="1b")
    gone_y, still_y = a.delete("todos", "t2"), a.update("todos", "t1", done=True)
    await a.takes(now_y, gone_y, still_y)
    gone = a.delete("todos", "t1")
    await a.takes(gone, nothing := a.update("todos", "t3", n=3), other := a.insert("notes", "n", todo="t1"))
    null = of([plain_one, nothing, other])
    later = [moved, now_y, gone_y, still_y, gone, other]
    live = {"x": of([one, partly_x, other]), "y": of([two, partly_y, *later]), "null": null}
    return live, {"x": of([one, other]), "y": of([two, partly_x, partly_y, *later]), "null": null}


VIEWS: dict[str, Any] = {"x": "x", "y": "y", "null": None}


async def test_a_subset_is_decided_by_what_the_record_is(store: Store) -> None:
    async with running_server(store, options=OPTIONS) as host, AsyncExitStack() as stack:
        live = {
            name: await stack.enter_async_context(device(host.url, f"live-{name}", **subset(list=value)))
            for name, value in VIEWS.items()
        }
        async with device(host.url, "a") as a:
            shown, shown_late = await move_about(a)
        for name, expected in shown.items():
            assert of(await live[name].hears(len(expected))) == expected, name
        for name, value in VIEWS.items():
            assert await live[name].hears_nothing_more()
            async with device(host.url, f"late-{name}", **subset(list=value)) as late:
                assert of(late.heard) == shown_late[name], name


@pytest.mark.parametrize("old_generation", [False, True])
async def test_a_subset_is_the_same_from_the_store_after_a_restart(tmp_path: Path, old_generation: bool) -> None:
    async with running_server(sqlite(tmp_path), options=OPTIONS) as host, device(host.url, "a") as a:
        _, shown = await move_about(a)
    async with running_server(sqlite(tmp_path), options=OPTIONS) as host:
        watermark = None if old_generation else 0
        for name, value in VIEWS.items():
            async with device(host.url, f"late-{name}", watermark, **subset(list=value)) as late:
                assert of(late.heard) == shown[name], name


async def test_a_subset_goes_on_live_after_a_restart(tmp_path: Path) -> None:
    async with running_server(sqlite(tmp_path), options=OPTIONS) as host, device(host.url, "a") as a:
        _, shown = await move_about(a)
    async with (
        running_server(sqlite(tmp_path), options=OPTIONS) as host,
        device(host.url, "x", **subset(list="x")) as x,
        device(host.url, "b") as b,
    ):
        await b.takes(b.update("todos", "t3", n=1), b.update("todos", "t3", list="x"), b.update("todos", "t3", n=1))
        await b.takes(b.update("todos", "t3", list=None), b.update("todos", "t3", n=1))
        assert of(await x.hears(len(shown["x"]) + 2)) == [*shown["x"], "b/2", "b/3"]
        assert await x.hears_nothing_more()


async def test_cascades_and_writes_of_the_server_have_stamps_too(store: Store) -> None:
    async with (
        running_server(store, options=OPTIONS) as host,
        device(host.url, "x", **subset(user="x")) as x,
        device(host.url, "y", **subset(user="y")) as y,
        device(host.url, "a") as a,
    ):
        await a.takes(
            a.insert("todos", "tx", user="x", list="l"), a.insert("todos", "ty", user="y"), a.delete("lists", "l")
        )
        await host.server.apply(Mutation("update", "todos", "ty", {"title": "new"}))
        await host.server.apply(Mutation("delete", "todos", "ty"))
        assert places(await x.hears(3)) == ["insert todos/tx", "delete lists/l", "delete todos/tx"]
        assert places(await y.hears(4)) == ["insert todos/ty", "delete lists/l", "update todos/ty", "delete todos/ty"]


async def test_a_subset_of_numbers_and_booleans(store: Store) -> None:
    async with (
        running_server(store, options=OPTIONS) as host,
        device(host.url, "five", **subset(n=5, done=True)) as five,
        device(host.url, "a") as a,
    ):
        await a.takes(
            a.insert("todos", "t", n=5.0, done=True),
            a.insert("todos", "u", n=5, done=False),
            a.insert("todos", "v", n=6, done=True),
            a.update("todos", "t", title="t"),
            a.update("todos", "u", title="u"),
            a.update("todos", "v", title="v"),
        )
        assert places(await five.hears(2)) == ["insert todos/t", "update todos/t"]
        assert await five.hears_nothing_more()


async def test_a_subset_after_a_schema_came_to_an_older_log(tmp_path: Path) -> None:
    async with running_server(sqlite(tmp_path)) as host, device(host.url, "a") as a:
        await a.takes(a.insert("todos", "t", list="x"), a.update("todos", "t", title="t"), a.update("todos", "u", n=1))
    async with running_server(sqlite(tmp_path), options=OPTIONS) as host:
        async with device(host.url, "x", **subset(list="x")) as x:
            assert of(x.heard) == ["a/1", "a/2"]
        async with device(host.url, "y", **subset(list="y")) as y:
            assert y.heard == []
        assert plain(await rows(host)) == {"t": {"list": "x", "title": "t"}, "u": {"n": 1}}


async def test_a_subset_without_a_schema_goes_by_what_the_log_makes_of_the_record(store: Store) -> None:
    async with (
        running_server(store) as host,
        device(host.url, "x", **subset(list="x")) as x,
        device(host.url, "y", **subset(list="y")) as y,
        device(host.url, "a") as a,
    ):
        await a.takes(a.insert("todos", "t", list="x", title="1"), a.update("todos", "t", title="2"))
        await a.takes(a.write("update", "todos", "t", {"title": "3"}, previousData={"title": "2", "list": "x"}))
        # What is looked at late is judged by the record of then: the next write may come when both have passed these.
        await a.takes(a.insert("users", "passed"))
        assert of(await x.hears(4)) == ["a/1", "a/2", "a/3", "a/4"]
        assert of(await y.hears(1)) == ["a/4"]
        await a.takes(a.write("update", "todos", "t", {"list": "y"}, previousData={"list": "x"}))
        await host.server.apply(Mutation("delete", "todos", "t"))
        assert of(await y.hears(3))[:2] == ["a/4", "a/5"]
        assert y.heard[2]["previousData"] == {"list": "y", "title": "3"}
        for one in (x, y):
            assert await one.hears_nothing_more()


# -- start and stop ---------------------------------------------------------------------------------------------------


async def test_rows_outlive_the_server(tmp_path: Path) -> None:
    async with running_server(sqlite(tmp_path), options=OPTIONS) as host, device(host.url, "a") as a:
        await a.takes(a.insert("users", "u", email="x"), a.insert("todos", "t", user="u"))
    async with running_server(sqlite(tmp_path), options=OPTIONS) as host, device(host.url, "b") as b:
        assert plain(await rows(host, "users")) == {"u": {"email": "x"}}
        assert [one["code"] for one in await b.send(b.insert("users", "v", email="x"))] == ["CONSTRAINT_VIOLATION"]
        await b.takes(b.delete("users", "u"))
        assert plain(await rows(host)) == {"t": {}}


async def test_a_server_that_is_not_running_has_no_records(store: Store) -> None:
    server = SyncServer(store, NoAuthProvider(), OPTIONS)
    with pytest.raises(RuntimeError, match="not running"):
        await server.query_collection("todos")
    with pytest.raises(RuntimeError, match="not running"):
        await server.apply(Mutation("insert", "todos", "t", {}))


# -- validators -------------------------------------------------------------------------------------------------------

TIMEOUT_S = 0.3
AGAIN = {
    "code": "VALIDATION_ERROR",
    "message": "The operation could not be validated, send it again later",
    "retriable": True,
}


class Rules:
    """A validator: it does for a record what `verdicts` says, and remembers whom it was asked about."""

    def __init__(self, **verdicts: Callable[[], Any]) -> None:
        self.verdicts = verdicts
        self.asked: list[str] = []
        self.seen: list[tuple[dict[str, Any], ValidationContext]] = []
        self.gate = Event()
        """What `hang` waits for."""

    def __call__(self, operation: dict[str, Any], context: ValidationContext) -> Any:
        self.asked.append(operation["id"])
        self.seen.append((deepcopy(operation), context))
        return self.verdicts.get(operation["recordId"], lambda: None)()

    def hang(self) -> None:
        """Come back once the test opens the gate."""
        assert self.gate.wait(60)

    def dawdle(self) -> None:
        """Take a while, but not too long."""
        self.gate.wait(TIMEOUT_S / 3)


def validated(rules: Any, **options: Any) -> ServerOptions:
    return ServerOptions(apply=ApplyRules(SCHEMA), validator=rules, validator_timeout=TIMEOUT_S, **options)


def fail() -> None:
    raise ValueError("not my day")


@pytest.fixture
def rules() -> Iterator[Rules]:
    made = Rules(
        no=lambda: Reject("TOO_MANY", "no more todos"),
        later=lambda: Reject("BUSY", "later", retriable=True),
        ignored=lambda: IGNORE,
        fails=fail,
        exits=lambda: sys.exit(3),
        wrong=lambda: False,
        also_wrong=lambda: {"code": "X"},
        strange=lambda: Reject("C" * 100, "m" * 1_000, retriable=1),  # type: ignore[arg-type]
    )
    made.verdicts["hangs"] = made.hang
    yield made
    made.gate.set()


async def test_a_validator_judges_each_operation(store: Store, rules: Rules) -> None:
    async with (
        running_server(store, options=validated(rules)) as host,
        device(host.url, "a") as a,
        device(host.url, "b") as b,
    ):
        names = ("yes", "no", "later", "ignored", "fails", "wrong", "also_wrong", "strange", "also_yes")
        batch = [a.insert("todos", name, title=name) for name in names]
        said = await a.send(*batch)
        assert [(one["recordId"], one["code"], one["message"], one["retriable"]) for one in said] == [
            ("no", "TOO_MANY", "no more todos", False),
            ("later", "BUSY", "later", True),
            ("fails", *AGAIN.values()),
            ("wrong", *AGAIN.values()),
            ("also_wrong", *AGAIN.values()),
            ("strange", "C" * 64, "m" * 500, True),
        ]
        assert rules.asked == of(batch)
        assert (await rows(host)).keys() == {"yes", "also_yes"}
        assert places(await b.hears(2)) == ["insert todos/yes", "insert todos/also_yes"]
        assert host.server.get_status().total_operations == 2


async def test_what_was_stored_is_not_asked_about_again(store: Store, rules: Rules) -> None:
    async with running_server(store, options=validated(rules)) as host, device(host.url, "a") as a:
        batch = [a.insert("todos", "t"), a.insert("todos", "no"), a.insert("todos", "ignored")]
        await a.send(*batch)
        rules.verdicts["t"] = lambda: Reject("CHANGED", "its mind")
        fresh = a.insert("todos", "u")
        assert [one["code"] for one in await a.send(*batch, fresh)] == ["TOO_MANY"]
        assert rules.asked == ["a/1", "a/2", "a/3", "a/2", "a/3", fresh["id"]]
        assert (await rows(host)).keys() == {"t", "u"}


async def test_a_validator_sees_the_operation_as_sent_who_sent_it_and_the_records(store: Store) -> None:
    found: list[Any] = []

    def look(operation: dict[str, Any], context: ValidationContext) -> None:
        records = context.records
        found.append(
            (
                operation,
                context.auth.user_id,
                context.auth.metadata,
                records.find_record("todos", "t"),
                records.count_collection("todos", {"done": True}),
                [record["id"] for record in records.query_collection("todos", RecordQuery(limit=5))],
            )
        )

    tokens = [
        StaticToken(token_digest(name), AuthContext(name, metadata={"role": name * 2})) for name in ("ada", "bob")
    ]
    async with (
        running_server(store, StaticTokenProvider(tokens), options=validated(look)) as host,
        device(host.url, "a", authToken="ada") as a,
        device(host.url, "b", authToken="bob") as b,
    ):
        first, second = a.insert("todos", "t", done=True), a.insert("todos", "u", done=True)
        atomic = {"n": {"type": "increment", "value": 1}}
        third = b.write("update", "todos", "t", {"n": 1}, previousData={"n": None}, atomicOps=atomic, transactionId="x")
        await a.takes(first, second)
        await b.takes(third)
    assert [one[:3] for one in found] == [
        (first, "ada", {"role": "adaada"}),
        (second, "ada", {"role": "adaada"}),
        (third, "bob", {"role": "bobbob"}),
    ]
    # Of one batch none is there yet while it is judged.
    assert [(one[3] is not None, *one[4:]) for one in found] == [(False, 0, []), (False, 0, []), (True, 2, ["t", "u"])]


async def test_a_validator_may_spoil_what_it_is_given(store: Store) -> None:
    def spoil(operation: dict[str, Any], _context: ValidationContext) -> None:
        operation["data"]["title"] = "mine"
        operation.clear()

    async with running_server(store, options=validated(spoil)) as host, device(host.url, "a") as a:
        await a.takes(a.insert("todos", "t", title="yours"))
        assert plain(await rows(host)) == {"t": {"title": "yours"}}


async def test_the_other_checks_come_after_the_validator_and_its_records_are_those_before(
    store: Store, rules: Rules
) -> None:
    async with running_server(store, options=validated(rules)) as host, device(host.url, "a") as a:
        said = await a.send(
            a.insert("todos", "bad", title=5),
            a.insert("todos", "no", title=5),
            a.insert("users", "u", email="x"),
            a.insert("users", "v", email="x"),
        )
        assert [one["code"] for one in said] == ["TOO_MANY", "INVALID_VALUE", "CONSTRAINT_VIOLATION"]
        assert len(rules.asked) == 4


async def test_what_a_session_may_not_send_is_not_asked_about(store: Store, rules: Rules) -> None:
    options = validated(rules, uploads=UploadLimits(max_operation_bytes=400))
    async with running_server(store, options=options) as host, device(host.url, "a") as a:
        too_large = a.insert("todos", "t", title="x" * 1_000)
        assert [one["code"] for one in await a.send(too_large, a.insert("todos", "u"))] == ["OPERATION_TOO_LARGE"]
        assert rules.asked == ["a/2"]
        assert await a.send(too_large) != []
        assert await a.send() == []
        assert rules.asked == ["a/2"]


async def test_the_servers_own_writes_and_effects_are_not_asked_about(store: Store, rules: Rules) -> None:
    async with running_server(store, options=validated(rules)) as host, device(host.url, "a") as a:
        await host.server.apply(Mutation("insert", "todos", "no", {"list": "l"}))
        await a.takes(a.delete("lists", "l"))
        assert places(await a.hears(2)) == ["insert todos/no", "delete todos/no"]
        assert rules.asked == ["a/1"]


async def test_a_validator_that_takes_too_long_refuses_for_now(store: Store, rules: Rules) -> None:
    async with running_server(store, options=validated(rules)) as host, device(host.url, "a") as a:
        (said,) = await a.send(a.insert("todos", "t"), hanging := a.insert("todos", "hangs"), a.insert("todos", "u"))
        assert said | AGAIN == said
        assert said["recordId"] == "hangs"
        assert (await rows(host)).keys() == {"t", "u"}
        rules.gate.set()
        validation = host.server._running.validation
        assert validation is not None
        await eventually(lambda: not validation._running)
        await a.takes(hanging)
        assert (await rows(host)).keys() == {"t", "u", "hangs"}


async def test_a_batch_that_takes_too_long_altogether_is_refused_for_now_from_there_on(
    store: Store, rules: Rules, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device waits for its acknowledgment."""
    monkeypatch.setattr(validation, "MAX_BATCH_S", TIMEOUT_S / 2)
    rules.verdicts["slow"] = rules.dawdle
    async with running_server(store, options=validated(rules)) as host, device(host.url, "a") as a:
        known = a.insert("todos", "known")
        await a.takes(known)
        batch = [a.insert("todos", "slow", n=number) for number in range(4)]
        said = await a.send(*batch, known)
        assert [(one["operationId"], one["code"], one["retriable"]) for one in said] == [
            (one["id"], "VALIDATION_ERROR", True) for one in batch[2:]
        ]
        assert rules.asked == of([known, *batch[:2]])
        assert host.server.get_status().total_operations == 3


async def test_an_exit_inside_a_validator_refuses_for_now_and_ends_nothing(store: Store, rules: Rules) -> None:
    async with running_server(store, options=validated(rules)) as host, device(host.url, "a") as a:
        (said,) = await a.send(a.insert("todos", "exits"), a.insert("todos", "t"))
        assert said | AGAIN == said
        assert (await rows(host)).keys() == {"t"}


async def test_batches_of_a_session_are_judged_and_stored_in_order(store: Store, rules: Rules) -> None:
    rules.verdicts["slow"] = rules.dawdle
    async with running_server(store, options=validated(rules)) as host, device(host.url, "a") as a:
        batches = [
            [a.insert("todos", "slow")],
            [a.insert("todos", f"t{n}") for n in range(3)],
            [a.insert("todos", "no")],
        ]
        sent = [await a.client.upload(*batch) for batch in batches]
        for message_id in sent:
            await a.until_acknowledged(message_id)
        assert a.acknowledged == sent
        assert rules.asked == [f"a/{number}" for number in range(1, 6)]
        assert [one["operationId"] for one in a.rejected] == ["a/5"]
        async with device(host.url, "b") as b:
            assert of(b.heard) == ["a/1", "a/2", "a/3", "a/4"]


@pytest.mark.parametrize("title", [None, "x" * 1_000])
async def test_no_batch_is_acknowledged_before_it_is_stored(store: Store, rules: Rules, title: str | None) -> None:
    """Not even when one comes behind it that has nothing to be judged: it is empty, or all of it is refused before."""
    rules.verdicts["slow"] = rules.dawdle
    options = validated(rules, uploads=UploadLimits(max_operation_bytes=400))
    async with running_server(store, options=options) as host, device(host.url, "a") as a:
        first = await a.client.upload(a.insert("todos", "slow"))
        second = await a.client.upload(*([] if title is None else [a.insert("todos", "large", title=title)]))
        await a.until_acknowledged(first)
        assert await host.server.count_collection("todos") == 1
        await a.until_acknowledged(second)
        assert a.acknowledged == [first, second]


async def test_a_session_hears_others_while_its_batch_is_judged(store: Store, rules: Rules) -> None:
    async with (
        running_server(store, options=validated(rules)) as host,
        device(host.url, "a") as a,
        device(host.url, "b") as b,
    ):
        rules.verdicts["slow"] = rules.hang
        sent = await a.client.upload(a.insert("todos", "slow"))
        await b.takes(b.insert("todos", "t"))
        assert places(await a.hears(1)) == ["insert todos/t"]
        rules.gate.set()
        await a.until_acknowledged(sent)


async def test_a_validator_that_hangs_for_one_session_stops_no_other(store: Store, rules: Rules) -> None:
    async with running_server(store, options=validated(rules)) as host, AsyncExitStack() as stack:
        a, *others = [await stack.enter_async_context(device(host.url, name)) for name in "abcd"]
        sent = await a.client.upload(a.insert("todos", "hangs"))
        await eventually(lambda: rules.asked != [])

        async def write(one: Device) -> None:
            for number in range(5):
                await one.takes(one.insert("todos", f"{one.node_id}-{number}"))

        async with trio.open_nursery() as nursery:
            for one in others:
                nursery.start_soon(write, one)
        assert await host.server.count_collection("todos") == 15
        await a.until_acknowledged(sent)
        assert [one["code"] for one in a.rejected] == ["VALIDATION_ERROR"]
        # The thread is still taken. Three are left.
        await write(others[0])


async def test_a_batch_that_hangs_at_every_operation_stops_no_other_session(store: Store, rules: Rules) -> None:
    """There are four threads, and a call that hangs keeps its own for good."""
    async with (
        running_server(store, options=validated(rules)) as host,
        device(host.url, "a") as a,
        device(host.url, "b") as b,
    ):
        batch = [a.insert("todos", "hangs", n=number) for number in range(6)]
        said = await a.send(*batch)
        assert [one["code"] for one in said] == ["VALIDATION_ERROR"] * 6
        await b.takes(b.insert("todos", "t"))


async def test_an_operation_that_hangs_whenever_it_is_sent_again_stops_no_other_session(
    store: Store, rules: Rules
) -> None:
    """A device is told to send it again, and does."""
    async with (
        running_server(store, options=validated(rules)) as host,
        device(host.url, "a") as a,
        device(host.url, "b") as b,
    ):
        hanging = a.insert("todos", "hangs")
        for _ in range(VALIDATOR_THREADS + 1):
            assert [one["code"] for one in await a.send(hanging)] == ["VALIDATION_ERROR"]
        await b.takes(b.insert("todos", "t"))
        rules.gate.set()
        await a.takes(hanging)


async def test_a_device_that_leaves_while_its_batch_is_judged_costs_nobody_anything(store: Store, rules: Rules) -> None:
    async with running_server(store, options=validated(rules)) as host, device(host.url, "b") as b:
        async with device(host.url, "a") as a:
            await a.client.upload(a.insert("todos", "hangs"), a.insert("todos", "t"))
            await eventually(lambda: rules.asked == ["a/1"])
        await eventually(lambda: host.server.get_connection_count() == 1)
        await b.takes(b.insert("todos", "u"))
        rules.gate.set()
        assert (await rows(host)).keys() == {"u"}


async def test_a_stop_waits_for_a_verdict_and_acknowledges_what_it_stores(tmp_path: Path, rules: Rules) -> None:
    rules.verdicts["slow"] = rules.dawdle
    async with running_server(sqlite(tmp_path), options=validated(rules)) as host, device(host.url, "a") as a:
        sent = await a.client.upload(a.insert("todos", "slow"))
        await eventually(lambda: rules.asked == ["a/1"])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.server.stop)
            await a.until_acknowledged(sent)
        assert (await a.client.closed()).code == 1001
    async with running_server(sqlite(tmp_path), options=OPTIONS) as host:
        assert (await rows(host)).keys() == {"slow"}


async def test_another_validator_is_for_the_sessions_to_come(store: Store, rules: Rules) -> None:
    async with running_server(store, options=validated(rules)) as host, device(host.url, "a") as a:
        host.server.reconfigure(NoAuthProvider(), validated(lambda operation, context: Reject("NEVER", "no")))
        await a.takes(a.insert("todos", "t"))
        async with device(host.url, "b") as b:
            assert [one["code"] for one in await b.send(b.insert("todos", "u"))] == ["NEVER"]
        host.server.reconfigure(NoAuthProvider(), OPTIONS)
        async with device(host.url, "c") as c:
            await c.takes(c.insert("todos", "no"))
        assert rules.asked == ["a/1"]
        assert (await rows(host)).keys() == {"t", "no"}


async def test_an_old_device_is_told_of_a_verdict_by_an_error(store: Store, rules: Rules) -> None:
    async with running_server(store, options=validated(rules)) as host, device(host.url, "old", None) as old:
        (said,) = await old.send(old.insert("todos", "no"), old.insert("todos", "t"))
        assert (said["type"], said["code"], said["retriable"]) == ("error", "TOO_MANY", False)
        assert (await rows(host)).keys() == {"t"}
