"""Every case of `backup.json` from end to end: files into and out of real stores, and the records they leave behind."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kora_daemon.apply import restore as restoring
from kora_daemon.apply.refill import refill
from kora_daemon.backup import BackupError, export_backup, verify_backup
from kora_daemon.maintenance import make_rows, merge_backup, replace_by_backup, write_backup
from kora_daemon.materialization.fold import fold
from kora_daemon.model.operation import Operation
from kora_daemon.model.record import RecordKey
from kora_daemon.model.schema import Schema
from kora_daemon.schema_file import load_schema
from kora_daemon.store.contract import Store
from tests.support.judging import SERVER
from tests.support.log import RECEIVED_AT_MS
from tests.support.records import apply, stamps
from tests.support.stores import RECORD_STORES

Case = dict[str, Any]
VECTORS = Path(__file__).parent / "data" / "vectors"
CASES: list[Case] = json.loads((VECTORS / "backup.json").read_text("utf-8"))["cases"]
EXPORTS = [case for case in CASES if case["kind"] == "export"]
IMPORTS = [case for case in CASES if case["kind"] == "import"]
REFUSED = [case for case in IMPORTS if "error" in case.get("recommended", {})]
TAKEN = [case for case in IMPORTS if case not in REFUSED]
LATER_MS = RECEIVED_AT_MS + 1_000

MakeStore = Callable[[str | None], Store]


def test_no_case_was_lost() -> None:
    assert (len(EXPORTS), len(TAKEN), len(REFUSED)) == (2, 5, 10)


@pytest.fixture(params=RECORD_STORES)
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeStore]:
    """Makes a store with a node id of the vectors, for a schema of theirs or none."""
    made: list[Store] = []

    def make(schema: str | None) -> Store:
        store = RECORD_STORES[request.param](tmp_path, SERVER)
        store.open()
        if schema is not None:
            store.upgrade(schema_named(schema))
            list(refill(store))
        made.append(store)
        return store

    yield make
    for store in made:
        store.close()


def schema_named(name: str) -> Schema:
    return load_schema(VECTORS / "schemas" / f"{name}.json")


def operation(member: Case) -> Operation:
    return msgspec.json.decode(json.dumps(member, ensure_ascii=False, separators=(",", ":")), type=Operation)


def written(store: Store, created_at_ms: int) -> bytes:
    """A backup of the store."""
    with store.snapshot() as snapshot:
        return b"".join(export_backup(snapshot, store.node_id, created_at_ms))


def restore(store: Store, file: bytes, *, merge: bool) -> int:
    """Put a backup into the store as the commands do; how many operations it has brought."""
    if merge:
        return sum(merge_backup(store, verify_backup(BytesIO(file)), LATER_MS))
    restored = replace_by_backup(store, verify_backup(BytesIO(file)), LATER_MS)
    for _ in make_rows(store):
        pass
    return restored


def contents(store: Store) -> Case:
    """All of the store, in the words of the vectors."""
    live: Case = {}
    for name in schema_named("todos").collections:
        records = [
            {field: value for field, value in record.items() if value is not None}
            for record in store.query_collection(name)
        ]
        if records:
            live[name] = records
    return {
        "count": store.count_operations(),
        "versionVector": store.version_vector(),
        "delivery": [[entry.sequence, entry.operation.id] for entry in store.entries_after(0, 1_000_000)],
        "live": live,
    }


def names(cases: list[Case]) -> list[str]:
    return [case["name"] for case in cases]


# -- export -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", EXPORTS, ids=names(EXPORTS))
@pytest.mark.parametrize("with_schema", [True, False])
def test_an_export_has_the_bytes_of_the_vector(
    make_store: MakeStore, tmp_path: Path, case: Case, with_schema: bool
) -> None:
    assert case["serverNode"] == SERVER
    store = make_store(case["schema"] if with_schema else None)
    apply(store, *map(operation, case["operations"]))
    expected = base64.b64decode(case["bytes"])
    assert written(store, case["now"]) == expected
    target = tmp_path / "out.kora"
    assert write_backup(store, target, case["now"]) == len(expected)
    assert target.read_bytes() == expected


def test_an_export_comes_back_as_it_was(make_store: MakeStore) -> None:
    (case,) = [case for case in EXPORTS if case["operations"]]
    first, merged, replaced = (make_store("todos") for _ in range(3))
    apply(first, *map(operation, case["operations"]))
    file = written(first, case["now"])
    assert restore(merged, file, merge=True) == restore(replaced, file, merge=False) == len(case["operations"])
    assert contents(merged) == contents(replaced) == contents(first)
    assert written(merged, case["now"]) == written(replaced, case["now"]) == file


# -- import -----------------------------------------------------------------------------------------------------------


def expected_contents(case: Case) -> Case:
    reference = case["reference"]
    live = case.get("recommended", {}).get("live", reference["live"])
    if live == "rebuilt from the restored log only":
        (into_empty,) = [one for one in TAKEN if one["name"] == "replace an empty store"]
        assert into_empty["bytes"] == case["bytes"]
        live = into_empty["recommended"]["live"]
    return {**{name: reference[name] for name in ("count", "versionVector", "delivery")}, "live": live}


def before(make_store: MakeStore, case: Case) -> Store:
    store = make_store(case["schema"])
    sent = [operation(member) for member in case["before"]]
    if sent:
        apply(store, *sent)
    return store


@pytest.mark.parametrize("case", TAKEN, ids=names(TAKEN))
def test_an_import_leaves_what_the_vector_says(make_store: MakeStore, case: Case) -> None:
    store = before(make_store, case)
    restored = restore(store, base64.b64decode(case["bytes"]), merge=case["merge"])
    assert restored == case["reference"]["result"]["operationsRestored"]
    assert contents(store) == expected_contents(case)
    with store.transaction() as tx:
        assert (tx.stale_records(), tx.refills()) == ([], {})
        keys = {
            RecordKey(one.operation.collection, one.operation.record_id) for one in store.entries_after(0, 1_000_000)
        }
        assert tx.states(keys) == {key: fold(tx.history(key)) for key in keys}
    assert None not in stamps(store).values()


@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize("case", REFUSED, ids=names(REFUSED))
def test_a_file_that_is_refused_changes_nothing(make_store: MakeStore, case: Case, merge: bool) -> None:
    store = before(make_store, case)
    contents_before = contents(store)
    kinds = {"checksum": "checksum", "incomplete": "incomplete", "not a backup": "not-a-backup"}
    with pytest.raises(BackupError) as refused:
        restore(store, base64.b64decode(case["bytes"]), merge=merge)
    assert refused.value.kind == kinds[case["recommended"]["error"].removesuffix(", nothing changed")]
    assert contents(store) == contents_before
    with store.transaction() as tx:
        assert tx.refills() == {}
    fresh = operation({**case["before"][0], "id": "next"} if case["before"] else AFTER)
    (entry,) = apply(store, fresh)
    assert entry.sequence == len(case["before"]) + 1


AFTER: Case = {
    "id": "next",
    "nodeId": "node-z",
    "type": "insert",
    "collection": "todos",
    "recordId": "next",
    "data": {"title": "next"},
    "previousData": None,
    "timestamp": {"wallTime": RECEIVED_AT_MS + 500, "logical": 0, "nodeId": "node-z"},
    "sequenceNumber": 1,
    "causalDeps": [],
    "schemaVersion": 1,
}


@pytest.mark.parametrize("case", TAKEN, ids=names(TAKEN))
def test_life_goes_on_after_an_import(make_store: MakeStore, case: Case) -> None:
    """Above every sequence that a device may have seen (wire.md section 5)."""
    store = before(make_store, case)
    restore(store, base64.b64decode(case["bytes"]), merge=case["merge"])
    highest = max(store.frontier(), len(case["before"]))
    (entry,) = apply(store, operation(AFTER))
    assert entry.sequence > highest
    assert store.query_collection("todos")[0]["id"] == "next"
    vector = case["reference"]["versionVector"]
    assert store.version_vector() == {**vector, "node-z": 1}


def test_a_replacement_twice_is_one(make_store: MakeStore) -> None:
    (case,) = [case for case in TAKEN if case["name"] == "replace a store with other content"]
    store = before(make_store, case)
    for _ in range(2):
        assert restore(store, base64.b64decode(case["bytes"]), merge=False) == 4
        assert contents(store) == expected_contents(case)


def test_a_replaced_log_can_be_merged_into_and_the_other_way_round(make_store: MakeStore) -> None:
    (case,) = [case for case in TAKEN if case["name"] == "merge into a store that has some of it"]
    file = base64.b64decode(case["bytes"])
    store = before(make_store, case)
    mine = written(store, LATER_MS)
    restore(store, file, merge=False)
    assert restore(store, file, merge=True) == 0
    assert restore(store, mine, merge=True) == 1
    assert contents(store)["live"] == expected_contents(case)["live"]
    restore(store, mine, merge=False)
    assert restore(store, file, merge=True) == 3
    after, wanted = contents(store), expected_contents(case)
    assert {**after, "delivery": [one for _, one in after["delivery"]]} == {
        **wanted,
        "delivery": [one for _, one in wanted["delivery"]],
    }


@pytest.mark.parametrize("at_once", [2, 1_000])
def test_a_file_that_has_an_operation_twice_brings_it_once(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(restoring, "WRITTEN_AT_ONCE", at_once)
    monkeypatch.setattr(restoring, "MERGED_AT_ONCE", at_once)
    (case,) = [case for case in EXPORTS if case["operations"]]
    lines = next(one["text"] for one in case["sections"] if one["name"] == "operations").splitlines()
    file = backup_of([*lines, lines[0]])
    for merge in (True, False):
        store = make_store("todos")
        assert restore(store, file, merge=merge) == 4
        assert store.count_operations() == 4


def backup_of(lines: list[str]) -> bytes:
    """A sound backup of these lines."""
    sections = [
        ("version_vector", b'{"node-a":3,"node-b":4}'),
        ("operations", "".join(f"{x}\n" for x in lines).encode()),
    ]
    body = b"".join(section(name, content) for name, content in sections)
    checksum = hashlib.sha256(body).hexdigest()
    manifest = {"version": 1, "createdAt": 1, "nodeId": "x", "operationCount": len(lines), "checksum": checksum}
    return section("manifest", json.dumps(manifest).encode()) + body + section("checksum", checksum.encode())


def section(name: str, content: bytes) -> bytes:
    return struct.pack("<II", len(name), len(content)) + name.encode() + content


def test_records_without_a_schema_are_those_of_the_restored_log(make_store: MakeStore) -> None:
    (case,) = [case for case in TAKEN if case["name"] == "replace an empty store"]
    store = make_store(None)
    restore(store, base64.b64decode(case["bytes"]), merge=False)
    assert store.materialize_collection("todos") == [{"id": "x", "title": 'één "q" \n 東😀', "position": 4.5}]
    assert set(stamps(store).values()) == {None}
    store.upgrade(schema_named("todos"))
    list(refill(store))
    assert contents(store) == expected_contents(case)
    assert None not in stamps(store).values()
