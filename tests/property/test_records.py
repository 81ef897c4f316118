"""Records of any log: however it arrives, wherever it is kept, whenever its rows are made, they are the same."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kora_daemon.apply import refill as refilling
from kora_daemon.apply.pipeline import Pipeline
from kora_daemon.apply.refill import refill
from kora_daemon.materialization.columns import Dialect, record_of, record_row
from kora_daemon.materialization.fold import RecordState, fold, state_text
from kora_daemon.materialization.shape import Refill
from kora_daemon.model.operation import Operation
from kora_daemon.model.record import Record, RecordKey, RecordQuery
from kora_daemon.model.schema import KINDS as ALL_KINDS
from kora_daemon.model.schema import Kind, Schema
from kora_daemon.store.contract import Store
from tests.support.log import RECEIVED_AT_MS, log_ids
from tests.support.records import Node, bring_to, key_of, live, refill_all, schema_of, stamps, states, tombstones
from tests.support.stores import RECORD_STORES

KINDS: dict[str, Kind] = {
    **{"title": "string", "n": "number", "done": "boolean", "at": "timestamp", "status": "enum"},
    **{"list": "array", "meta": "json", "map": "object", "photo": "blob", "body": "richtext", "pin": "secret"},
    **{"owner": "string", "draft": "richtext", "tag": "json"},
}
SCOPE = ["owner", "draft", "tag"]
SCHEMA = schema_of(2, scope=SCOPE, todos=KINDS, notes={"title": "string"})
KINDS_OF = {name: one.kinds for name, one in SCHEMA.collections.items()}
OLDER = schema_of(1, todos={"title": "string", "n": "number", "list": "array", "gone": "json"})
IDS = ["a", "b", "é", "\uff5e", "😀"]
KEYS = [RecordKey(name, one) for name in ("todos", "notes") for one in IDS]

some_json = st.sampled_from(
    [
        *(None, True, False, 0, 1, -0.0, 0.5, -2, 1e308, 2**53 + 1, 10**400),
        *("", "x", "y", "\ud800", "nul\0", "é😀", "l" * 255, "l" * 256, "1"),
        *([], [1], ["x", None], {}, {"z": 1, "a": [True]}, {"$koraBytes": "YWJj"}, {"$koraBytes": "!"}, {"0": 97}),
    ]
)
fields = st.sampled_from([*KINDS, "unknown", "gone", "id"])
encrypted = st.just({"__kora_e2e_encrypted": {"v": 1, "iv": "aXY=", "ct": "Y3Q=", "alg": "A256GCM"}})
number_intents = st.tuples(st.sampled_from(["increment", "max", "min"]), st.sampled_from([1, -2, 0.1, 1e308]))
list_intents = st.tuples(st.sampled_from(["append", "remove"]), some_json)
atomic_fields = st.tuples(st.sampled_from(["n", "at"]), number_intents) | st.tuples(st.just("list"), list_intents)
places = st.tuples(st.integers(1, 3), st.integers(0, 1), st.sampled_from(["B", "é"]))


@st.composite
def logs(draw: st.DrawFn, *, max_size: int = 12, unique_places: bool = False) -> list[Operation]:
    """Operations in the order of arrival; with equal timestamps, unless their places are to be unique."""
    node = Node()
    written = []
    for place in draw(st.lists(places, min_size=5, max_size=max_size, unique=unique_places)):
        kind = draw(st.sampled_from(["insert", "update", "update", "delete"]))
        data = draw(st.dictionaries(fields, some_json, max_size=5) | encrypted) if kind != "delete" else None
        atomic = None
        if data is not None and draw(st.booleans()):
            named = dict(draw(st.lists(atomic_fields, max_size=2)))
            atomic = {name: {"type": type_, "value": value} for name, (type_, value) in named.items()}
            data = {name: draw(some_json) for name in named} | data
        record_id = draw(st.sampled_from(IDS if max_size > 20 else ["a", "a", "é"]))
        collection = draw(st.sampled_from(["todos", "todos", "todos", "todos", "notes", "unlisted"]))
        written.append(node.write(kind, record_id, data, at=place, collection=collection, atomic=atomic))  # type: ignore[arg-type]
    return written


def batches(log: Sequence[Operation]) -> st.SearchStrategy[list[list[list[Operation]]]]:
    """A log as writes of batches of operations, some of which come a second time."""
    return st.lists(st.integers(0, 15), min_size=1, max_size=8).map(lambda cuts: _cut(log, cuts))


def _cut(log: Sequence[Operation], cuts: Sequence[int]) -> list[list[list[Operation]]]:
    writes: list[list[list[Operation]]] = []
    begin = 0
    for cut in itertools.cycle([*cuts, 3]):
        if begin >= len(log):
            return writes
        if cut & 1 or not writes:
            writes.append([])
        end = begin + (cut >> 1 & 3)
        writes[-1].append([*log[begin:end], *(log[begin // 2 : begin] if cut & 8 else ())])
        begin = end
    raise AssertionError


def test_no_case_was_lost() -> None:
    assert set(KINDS.values()) == set(ALL_KINDS)
    assert {"memory", "sqlite"} <= RECORD_STORES.keys()


@contextmanager
def stores(*names: str) -> Iterator[list[Store]]:
    """New stores of these kinds."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        made = [RECORD_STORES[name](folder) for name in names]
        for store in made:
            store.open()
            stack.callback(store.close)
        yield made


def write(store: Store, writes: Sequence[Sequence[Sequence[Operation]]]) -> None:
    pipeline = Pipeline(store.node_id)
    for one in writes:
        with store.transaction() as tx:
            pipeline.apply_batches(tx, one, RECEIVED_AT_MS)


def shown(store: Store) -> list[str]:
    """All rows, so that even a 1 differs from a 1.0 and from true; live ones first."""
    return [repr(show(store, name)) for name in SCHEMA.collections for show in (live, tombstones)]


def rows_of(found: Mapping[RecordKey, RecordState]) -> list[str]:
    """What is to be shown of records in these states."""
    shown = []
    for name, collection in SCHEMA.collections.items():
        for is_live in (True, False):
            rows = [
                record_row(collection.kinds, one.record_id, state, Dialect.SQLITE)
                for one, state in found.items()
                if one.collection == name and state.live == is_live
            ]
            shown.append(repr([record_of(collection.kinds, row) for row in rows]))
    return shown


def folded(log: Sequence[Operation]) -> dict[RecordKey, RecordState]:
    """What the operations make of their records, in the order of a log."""
    return {one: fold(mine) for one in KEYS if (mine := [it for it in log if key_of(it) == one])}


def texts(found: dict[RecordKey, RecordState]) -> dict[RecordKey, str]:
    return {one: state_text(state) for one, state in found.items()}


def assert_all_there(store: Store, log: Sequence[Operation], *, exact: bool = True) -> None:
    """States are the fold of the log, rows show them, and a fresh replay changes nothing."""
    expected = folded(log)
    assert states(store, KEYS) == expected
    assert texts(states(store, KEYS)) == texts(expected)
    before = shown(store)
    assert not exact or before == rows_of(expected)
    with store.transaction() as tx:
        for name in SCHEMA.collections:
            tx.replace_records(name, None, None, {})
            tx.set_refill(name, Refill("log"))
    bring_to(store, SCHEMA)
    assert shown(store) == before
    assert states(store, KEYS) == expected


@settings(deadline=None, max_examples=50)
@given(logs(unique_places=True), st.data())
def test_the_order_of_arrival_and_the_batches_are_of_no_matter(log: list[Operation], data: st.DataObject) -> None:
    with stores("memory", "sqlite") as made:
        for store in made:
            bring_to(store, SCHEMA)
            write(store, data.draw(batches(data.draw(st.permutations(log)))))
            assert_all_there(store, log)


@settings(deadline=None, max_examples=50)
@given(logs(), st.data())
def test_equal_timestamps_follow_the_log_on_every_store(log: list[Operation], data: st.DataObject) -> None:
    with stores("memory", "sqlite") as made:
        # What is stamped again, when a record moves, is what it is at the end of the write: so both have the same ones.
        writes = data.draw(batches(log))
        for store in made:
            bring_to(store, SCHEMA)
            write(store, writes)
            assert log_ids(store) == [one.id for one in log]
        assert known(log, stamps(made[0])) == known(log, stamps(made[1]))
        for store in made:
            assert_all_there(store, log)


# -- stamps -----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(logs(), st.data())
def test_a_stamp_says_what_the_record_was_when_its_operation_was_stored(
    log: list[Operation], data: st.DataObject
) -> None:
    expected: dict[str, Any] = {}
    with stores("memory", "sqlite") as (first, second):
        for store in (first, second):
            bring_to(store, SCHEMA)
        for count, one in enumerate(log, start=1):
            before = scoped_fields(log[: count - 1], one)
            write(first, [[[one]]])
            expected[one.id] = stamp_by_the_book(first, one, log[:count])
            if before is not None and repr(before) != repr(scoped_fields(log[:count], one)):
                whole = stamp_by_the_book(first, one, log[:count], whole=True)
                expected |= {other.id: whole for other in log[:count] if key_of(other) == key_of(one)}
        assert known(log, stamps(first)) == known(log, expected)
        write(second, data.draw(batches(log)))
        # Records that have moved are stamped at the end of a write, with whatever else it has changed.
        assert known(log, stamps(second), SCOPE) == known(log, expected, SCOPE)


def scoped_fields(log: Sequence[Operation], operation: Operation) -> list[Any] | None:
    """What scopes are decided by, of the record of an operation; None without a record."""
    mine = [one for one in log if key_of(one) == key_of(operation)]
    if not mine or operation.collection not in SCHEMA.collections:
        return None
    fields = fold(mine).fields
    return [fields.get(name) for name in SCOPE]


def stamp_by_the_book(
    store: Store, operation: Operation, log: Sequence[Operation], *, whole: bool = False
) -> dict[str, Any] | None:
    """The stamp of the latest operation of a log, from what a reader is shown of its record.

    `whole`: with everything, null included, as for all operations of a record that has moved from one scope to another.
    """
    if operation.collection not in SCHEMA.collections:
        return None
    given = {} if whole else json.loads(bytes(operation.data)) or {}
    fields = fold([one for one in log if key_of(one) == key_of(operation)]).fields
    carried = {name for name, value in given.items() if _same(value, fields.get(name))}
    contradicted = {
        name: None
        for name in KINDS_OF[operation.collection]
        if (whole or given.get(name) is not None) and fields.get(name) is None
    }
    raw = fold([one for one in log if key_of(one) == key_of(operation)]).fields
    record = record_in(store, key_of(operation))
    stamp: dict[str, Any] = dict(contradicted)
    unknown = []
    for name, field in SCHEMA.collections[operation.collection].fields.items():
        value = record[name]
        if name in carried or raw.get(name) is None:
            continue
        if field.kind in ("array", "object", "blob") or (field.kind == "json" and isinstance(raw[name], list | dict)):
            stamp[name] = []
        elif name not in SCOPE and field.kind in ("json", "richtext", "secret"):
            unknown.append(name)
        elif isinstance(value, bytes):
            stamp[name] = []
        elif name not in SCOPE and isinstance(value, str) and len(value) > 255:
            unknown.append(name)
        elif value is not None:
            stamp[name] = value
    return stamp | ({"": unknown} if unknown else {})


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


def record_in(store: Store, one: RecordKey) -> Record:
    (found,) = store.query_collection(one.collection, RecordQuery({"id": one.record_id}, include_deleted=True))
    return found


def known(log: Sequence[Operation], found: dict[str, Any], of: Collection[str] | None = None) -> str:
    """Stamps to be compared exactly, but for the order in them, and for null where an operation says nothing else.

    `of`: only what they say of these fields.
    """
    said = {one.id: json.loads(bytes(one.data)) or {} for one in log}
    return repr(
        {
            one: stamp
            and {
                name: sorted(value) if name == "" else value
                for name, value in sorted(stamp.items())
                if (value is not None or said[one].get(name) is not None) and (of is None or name in of)
            }
            for one, stamp in sorted(found.items())
        }
    )


# -- rows that are made again -----------------------------------------------------------------------------------------


class Course(NamedTuple):
    """How rows are made again while operations arrive. `early` writes come before the schema changes from `before`."""

    before: Schema | None
    early: int
    finished: bool
    max_records: int
    max_operations: int
    between: list[int]


courses = st.builds(
    Course,
    st.sampled_from([None, OLDER, SCHEMA]),
    st.integers(0, 6),
    st.booleans(),
    st.integers(1, 3),
    st.integers(1, 6),
    st.lists(st.integers(0, 2), max_size=20),
)


def run(store: Store, writes: Sequence[Sequence[Sequence[Operation]]], course: Course) -> None:
    if course.before is not None:
        store.upgrade(course.before)
    write(store, writes[: course.early])
    if course.finished:
        refill_all(store)
    store.upgrade(SCHEMA, allow_destructive=True)
    rest = iter(writes[course.early :])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refilling, "MAX_RECORDS", course.max_records)
        patch.setattr(refilling, "MAX_OPERATIONS", course.max_operations)
        for _, count in zip(refill(store), course.between, strict=False):
            write(store, list(itertools.islice(rest, count)))
        write(store, list(rest))
        refill_all(store)


@settings(deadline=None, max_examples=50)
@given(logs(max_size=24), st.data(), courses)
def test_rows_made_again_between_live_writes_are_those_of_a_fresh_replay(
    log: list[Operation], data: st.DataObject, course: Course
) -> None:
    """From the log, from the states, or from one and then the other, when the schema changes half-way."""
    writes = data.draw(batches(log))
    with stores("memory", "sqlite") as made:
        for store in made:
            run(store, writes, course)
            assert_all_there(store, log)
            found = stamps(store)
            assert all(found[one.id] is not None for one in log if one.collection in SCHEMA.collections)
        assert stamps(made[0]) == stamps(made[1])


@pytest.mark.parametrize("name", [name for name in RECORD_STORES if name not in ("memory", "sqlite")])
@settings(deadline=None, max_examples=12)
@given(logs(max_size=24), st.data(), courses)
def test_other_stores_go_the_same_ways(name: str, log: list[Operation], data: st.DataObject, course: Course) -> None:
    writes = data.draw(batches(log))
    with stores("memory", name) as made:
        for store in made:
            run(store, writes, course)
            assert_all_there(store, log, exact=store is made[0])
        assert stamps(made[0]) == stamps(made[1])
