"""Every store finds the records that refer to a blob, and knows them from the log alone (scopes.md section 9)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from kora_daemon.materialization import scope_keys, upgrade
from kora_daemon.materialization.scope_keys import Selector, scope_key
from kora_daemon.materialization.shape import shape_of
from kora_daemon.model.record import RecordKey
from kora_daemon.model.scope import ScopeMap
from kora_daemon.server.references import references
from kora_daemon.store.contract import Store
from tests.support.records import Node, append, apply, bring_to, fail_after, key, schema_of
from tests.support.stores import DURABLE_STORES, RECORD_STORES, StoreKind, beside

FILES = schema_of(files={"ownerId": "string", "file": "blob", "more": "json"}, notes={"title": "string"})
SCOPED = schema_of(scope=["ownerId"], files={"ownerId": "string", "file": "blob", "more": "json"})
INDEXED = {"files": ("ownerId",)}
ALI: ScopeMap = {"files": {"ownerId": "ali"}}
BEA: ScopeMap = {"files": {"ownerId": "bea"}}
EVERYTHING = [Selector("")]


def hashed(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def blob(name: str, manifest: str | None = None) -> dict[str, Any]:
    """What a field says of a blob."""
    found: dict[str, Any] = {"hash": hashed(name), "size": 1, "mimeType": "text/plain"}
    return found if manifest is None else {**found, "manifestHash": hashed(manifest)}


def file(record_id: str) -> RecordKey:
    return key(record_id, "files")


@pytest.fixture(params=RECORD_STORES)
def kind(request: pytest.FixtureRequest) -> StoreKind:
    return RECORD_STORES[request.param]


@pytest.fixture
def store(kind: StoreKind, tmp_path: Path) -> Iterator[Store]:
    made = kind(tmp_path)
    made.open()
    yield made
    made.close()


@pytest.fixture
def node() -> Node:
    return Node()


def found(store: Store, name: str, selectors: Sequence[Selector] = EVERYTHING, limit: int = 100) -> set[RecordKey]:
    return {one.key for one in store.blob_references(hashed(name), selectors, limit)}


def visible(store: Store, name: str, scopes: ScopeMap | None) -> set[RecordKey]:
    return {one.key for one in references(store, {hashed(name)}, scopes, INDEXED)}


@pytest.mark.parametrize("schema", [None, FILES, SCOPED], ids=["no schema", "tables", "scopes"])
def test_a_record_is_found_by_the_blob_and_by_its_manifest(store: Store, node: Node, schema: Any) -> None:
    if schema is not None:
        bring_to(store, schema)
    apply(
        store,
        node.insert("a", {"ownerId": "ali", "file": blob("x", "mx")}, collection="files"),
        node.insert("b", {"ownerId": "bea", "file": blob("x")}, collection="files"),
        node.insert("c", {"ownerId": "bea", "file": None}, collection="files"),
        node.update("c", {"file": blob("y", "my")}, collection="files"),
    )
    assert found(store, "x") == {file("a"), file("b")}
    assert found(store, "mx") == {file("a")}
    assert found(store, "y") == found(store, "my") == {file("c")}
    assert found(store, "z") == set()


def test_what_is_only_like_a_reference_is_none(store: Store, node: Node) -> None:
    bring_to(store, FILES)
    other = {"hash": "ABC", "manifestHash": 5, "inner": {"hash": hashed("x")}, "list": [blob("x")]}
    apply(store, node.insert("a", {"more": other}, collection="files"))
    apply(store, node.insert("b", {"title": hashed("x")}, collection="notes"))
    apply(store, node.insert("c", {"hash": hashed("x")}, collection="files"))
    assert found(store, "x") == set()


def test_selectors_narrow_what_is_found(store: Store, kind: StoreKind, node: Node) -> None:
    bring_to(store, SCOPED)
    apply(store, *(node.insert(f"b{n}", {"ownerId": "bea", "file": blob("x")}, collection="files") for n in range(9)))
    apply(store, node.insert("a", {"ownerId": "ali", "file": blob("x")}, collection="files"))
    alis = scope_key("files", "ownerId", "ali")
    assert alis is not None
    narrowed = found(store, "x", [Selector("files", (alis,))], 5)
    assert narrowed == {file("a")} or not kind.tables
    assert file("a") in narrowed
    assert len(found(store, "x", limit=3)) == 3 or not kind.tables


def test_a_record_that_is_handed_over_is_found_where_it_is_now(store: Store, node: Node) -> None:
    bring_to(store, SCOPED)
    apply(store, node.insert("a", {"ownerId": "ali", "file": blob("x")}, collection="files"))
    apply(store, node.update("a", {"ownerId": "bea"}, collection="files"))
    assert (visible(store, "x", ALI), visible(store, "x", BEA)) == (set(), {file("a")})


def test_only_what_refers_to_it_now_counts(store: Store, node: Node) -> None:
    bring_to(store, SCOPED)
    apply(store, node.insert("a", {"ownerId": "ali", "file": blob("x", "mx")}, collection="files"))
    assert visible(store, "mx", ALI) == {file("a")}
    apply(store, node.update("a", {"file": blob("y")}, collection="files"))
    assert [visible(store, name, ALI) for name in ("x", "mx", "y")] == [set(), set(), {file("a")}]
    assert [visible(store, name, None) for name in ("x", "y")] == [set(), {file("a")}]


@pytest.mark.parametrize(
    ("scopes", "seen"),
    [
        (None, True),
        ({"files": {}}, True),
        (ALI, True),
        ({"files": {"ownerId": "ali", "__readonly": True}}, True),
        ({"files": {"more": None, "ownerId": "ali"}}, True),
        (BEA, False),
        ({"notes": {}}, False),
        ({}, False),
        ({"files": {"ownerId": "ali", "more": 1}}, False),
    ],
)
def test_references_are_those_within_the_scopes(store: Store, node: Node, scopes: ScopeMap | None, seen: bool) -> None:
    bring_to(store, SCOPED)
    apply(store, node.insert("a", {"ownerId": "ali", "file": blob("x")}, collection="files"))
    assert visible(store, "x", scopes) == ({file("a")} if seen else set())


@pytest.mark.parametrize("kind", [DURABLE_STORES[name] for name in DURABLE_STORES], ids=[*DURABLE_STORES])
def test_ones_own_is_found_among_any_number_of_others(store: Store, node: Node) -> None:
    """The memory store, which has no index of values, finds all."""
    bring_to(store, SCOPED)
    for first in range(0, 1_200, 300):
        many = [
            node.insert(f"b{n}", {"ownerId": "bea", "file": blob("logo")}, collection="files")
            for n in range(first, first + 300)
        ]
        apply(store, *many)
    apply(store, node.insert("z", {"ownerId": "ali", "file": blob("logo")}, collection="files"))
    assert visible(store, "logo", ALI) == {file("z")}


def test_a_write_that_fails_leaves_no_reference(store: Store, node: Node) -> None:
    bring_to(store, FILES)
    fail_after(store, lambda tx: append(tx, node.insert("a", {"file": blob("x")}, collection="files")))
    assert found(store, "x") == set()


def test_a_log_that_is_replaced_takes_its_references_along(store: Store, node: Node) -> None:
    bring_to(store, FILES)
    apply(store, node.insert("a", {"file": blob("x")}, collection="files"))
    with store.transaction() as tx:
        tx.replace_log({})
    assert found(store, "x") == set()


def test_what_another_server_has_appended_is_found_with_the_next_write(
    store: Store, kind: StoreKind, node: Node
) -> None:
    bring_to(store, FILES)
    other = beside(kind, store)
    with other.transaction() as tx:
        append(tx, node.insert("a", {"file": blob("x")}, collection="files"))
    apply(store, node.insert("b", {}, collection="files"))
    assert found(store, "x") == {file("a")}


def test_a_log_from_before_there_were_references_gets_them_with_the_next_start(
    store: Store, kind: StoreKind, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(upgrade, "shape_of", lambda *given: replace(shape_of(*given), blobs=[]))
        before.setattr(scope_keys, "blob_keys", lambda _operation: set())
        bring_to(store, SCOPED)
        apply(store, node.insert("a", {"ownerId": "ali", "file": blob("x")}, collection="files"))
        assert found(store, "x") == set() or not kind.tables
    bring_to(store, SCOPED)
    assert visible(store, "x", ALI) == {file("a")}
