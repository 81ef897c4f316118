"""Every case of `apply-rejections.json` and `query.json` on every store."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kora_daemon.apply.pipeline import ApplyRules, Pipeline
from kora_daemon.apply.refill import refill
from kora_daemon.model.operation import Operation
from kora_daemon.model.record import QueryError, RecordQuery
from kora_daemon.model.schema import Schema
from kora_daemon.schema_file import load_schema
from kora_daemon.store.contract import Store
from tests.support.log import RECEIVED_AT_MS
from tests.support.stores import RECORD_STORES

Case = dict[str, Any]
VECTORS = Path(__file__).parent / "data" / "vectors"
SERVER = "server-node"


def vector(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text("utf-8"))


APPLY: list[Case] = vector("apply-rejections")["cases"]
QUERY = vector("query")


def schema_named(name: str | None) -> Schema | None:
    return None if name is None else load_schema(VECTORS / "schemas" / f"{name}.json")


@pytest.fixture(params=RECORD_STORES)
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[Schema | None], Store]]:
    made: list[Store] = []

    def make(schema: Schema | None) -> Store:
        store = RECORD_STORES[request.param](tmp_path, SERVER)
        store.open()
        if schema is not None:
            store.upgrade(schema)
            list(refill(store))
        made.append(store)
        return store

    yield make
    for store in made:
        store.close()


def test_no_case_was_lost() -> None:
    assert len(APPLY) == 51
    assert len(QUERY["cases"]) == 65


class Server:
    """A store, and the pipeline that everything passes through."""

    def __init__(self, store: Store, schema: Schema | None) -> None:
        self.store = store
        self.pipeline = Pipeline(store.node_id, ApplyRules(schema))

    def apply(self, sent: Case) -> Case:
        operation = msgspec.json.decode(json.dumps(sent, ensure_ascii=False), type=Operation)
        with self.store.transaction() as tx:
            (outcome,) = self.pipeline.apply_batches(tx, [[operation]], RECEIVED_AT_MS)
        if outcome.rejections:
            (refused,) = outcome.rejections
            return {"result": "skipped", "code": refused.code, "retriable": refused.retriable}
        if not outcome.applied:
            return {"result": "duplicate"}
        applied, *effects = [entry.operation for entry in outcome.applied]
        assert applied.id == operation.id
        for effect in effects:
            assert effect.timestamp.order_key > applied.timestamp.order_key
            assert effect.timestamp.node_id == SERVER
        result: Case = {"result": "applied"}
        if effects:
            result["sideEffects"] = [_described(effect) for effect in effects]
        return result


def _described(effect: Operation) -> Case:
    whole = json.loads(msgspec.json.encode(effect))
    return {name: value for name, value in whole.items() if name not in ("id", "timestamp")}


@pytest.mark.parametrize("case", APPLY, ids=[case["name"] for case in APPLY])
def test_operations_are_judged_as_the_vector_says(make_store: Callable[..., Store], case: Case) -> None:
    schema = schema_named(case["schema"])
    server = Server(make_store(schema), schema)
    results = [server.apply(sent) for sent in case["operations"]]
    assert results == case.get("recommended", case)["results"]
    if "recommended" in case:
        return
    assert server.store.count_operations() == case["count"]
    if schema is not None:
        live = {
            name: [_without_nulls(record) for record in server.store.query_collection(name)]
            for name in schema.collections
        }
        assert {name: found for name, found in live.items() if found} == case["live"]


def _without_nulls(record: Case) -> Case:
    hidden = ("_created_at", "_updated_at")
    return {name: value for name, value in record.items() if value is not None and name not in hidden}


@pytest.fixture
def queried(make_store: Callable[..., Store]) -> Store:
    schema = schema_named(QUERY["schema"])
    server = Server(make_store(schema), schema)
    for sent in QUERY["operations"]:
        assert server.apply(sent)["result"] == "applied"
    return server.store


@pytest.mark.parametrize("case", QUERY["cases"], ids=[f"{one['kind']} {one['name']}" for one in QUERY["cases"]])
def test_queries_find_what_the_vector_says(
    queried: Store, make_store: Callable[..., Store], case: Case, tmp_path: Path
) -> None:
    expected = case.get("recommended") or case["result"]
    store = make_store(None) if case["name"] == "query before setSchema" else queried
    try:
        found = ask(store, case)
    except QueryError as error:
        found = {"error": error.problem}
    if not case.get("ordered") and "ids" in found:
        found["ids"].sort()
    if "record" in found and found["record"] is not None:
        found["record"] = {name: value for name, value in found["record"].items() if value is not None}
    assert found == expected


def ask(store: Store, case: Case) -> Case:
    collection = case.get("collection", QUERY["collection"])
    if case["kind"] == "count":
        return {"count": store.count_collection(collection, case.get("where"))}
    if case["kind"] == "find":
        return {"record": store.find_record(collection, case["id"])}
    options = case.get("options", {})
    query = RecordQuery(
        options.get("where", {}),
        options.get("orderBy"),
        options.get("orderDirection") == "desc",
        options.get("limit"),
        options.get("offset", 0),
        options.get("includeDeleted", False),
    )
    return {"ids": [record["id"] for record in store.query_collection(collection, query)]}
