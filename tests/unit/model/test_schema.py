"""The schema types: what a field admits, what tables and rows depend on, how relations are found."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import apsw
import pytest

from kora_daemon.materialization.shape import encode_shape, planned_refill, shape_of
from kora_daemon.model.schema import (
    KINDS,
    RESERVED_TABLES,
    Collection,
    Constraint,
    Field,
    Kind,
    Relation,
    Schema,
    SyncRule,
)
from kora_daemon.store.sqlite import SqliteStore

TITLE = Field(name="title", kind="string")
DONE = Field(name="done", kind="boolean", default=False)


def collection(*fields: Field, **changes: Any) -> Collection:
    return Collection(name="todos", fields={one.name: one for one in fields or (TITLE, DONE)}, **changes)


VALUES: dict[str, Any] = {
    "text": "draft",
    "empty text": "",
    "integer": 5,
    "fraction": 0.5,
    "boolean": True,
    "list": ["a"],
    "list of bytes": [1, 255],
    "object": {"a": 1},
    "tagged bytes": {"$koraBytes": "AQI="},
    "bytes of the wire": {"__kora_bytes__": "AQI="},
    "indexed bytes": {"0": 1, "1": 255},
}
ANYTHING = set(VALUES)
OBJECTS = {"object", "tagged bytes", "bytes of the wire", "indexed bytes"}
ADMITTED: dict[Kind, set[str]] = {
    "string": {"text", "empty text"},
    "secret": {"text", "empty text"},
    "enum": {"text"},
    "number": {"integer", "fraction"},
    "timestamp": {"integer", "fraction"},
    "boolean": ANYTHING,
    "json": ANYTHING,
    "array": {"list", "list of bytes"},
    "object": OBJECTS,
    "blob": OBJECTS,
    "richtext": {"text", "empty text", "list of bytes"} | OBJECTS - {"object"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_admits_null_and_the_values_of_its_kind_only(kind: Kind) -> None:
    field = Field(name="f", kind=kind, enum_values=("draft", "done") if kind == "enum" else ())
    assert {name for name, value in VALUES.items() if field.admits(value)} == ADMITTED[kind]
    assert field.admits(None)
    assert field.expects


def test_an_enum_says_what_it_expects_and_admits_nothing_else() -> None:
    field = Field(name="status", kind="enum", enum_values=("draft", "done"))
    assert field.expects == "one of draft, done"
    assert field.admits("done")
    assert not any((field.admits("Done"), field.admits(["done"]), field.admits({}), field.admits(5)))


@pytest.mark.parametrize(
    "changed",
    [
        collection(TITLE),
        collection(TITLE, DONE, Field(name="more", kind="string")),
        collection(TITLE, replace(DONE, kind="json")),
        collection(replace(TITLE, name="headline"), DONE),
    ],
    ids=["a field less", "a field more", "another kind", "another name"],
)
def test_table_and_rows_change_with_the_fields_and_their_kinds(changed: Collection) -> None:
    assert changed.fingerprint != collection().fingerprint
    assert changed.kinds != collection().kinds
    assert rows_are_made_again(collection(), changed)
    assert rows_are_made_again(changed, collection())


@pytest.mark.parametrize(
    "changed",
    [
        collection(TITLE, replace(DONE, default=True)),
        collection(TITLE, replace(DONE, default=0)),
        collection(indexes=("done",)),
    ],
    ids=["another default", "0 is not false", "an index"],
)
def test_a_default_or_an_index_changes_the_table_and_leaves_the_rows_alone(changed: Collection) -> None:
    assert changed.fingerprint != collection().fingerprint
    assert changed.kinds == collection().kinds
    assert not rows_are_made_again(collection(), changed)


def test_what_leaves_no_trace_in_the_table_leaves_table_and_rows_alone() -> None:
    status = Field(name="status", kind="enum", enum_values=("a",))
    plain = collection(TITLE, status, indexes=("title", "status"))
    other = collection(
        replace(status, enum_values=("a", "b")),
        TITLE,
        indexes=("status", "title"),
        constraints=(Constraint(type="unique", fields=("title",)),),
    )
    assert (plain.fingerprint, plain.kinds) == (other.fingerprint, other.kinds)
    assert not rows_are_made_again(plain, other)


def test_a_scope_leaves_the_table_alone_and_is_stamped_on_the_log_again() -> None:
    scoped = collection(scope=("title",))
    assert (scoped.fingerprint, scoped.kinds) == (collection().fingerprint, collection().kinds)
    assert rows_are_made_again(collection(), scoped)
    assert not rows_are_made_again(scoped, collection())


def rows_are_made_again(present: Collection, wanted: Collection) -> bool:
    """Whether a database goes through its rows when the one schema follows the other."""
    shapes = shape_of(present, 1), shape_of(wanted, 2)
    return planned_refill(*shapes, None, rows_lost=False) is not None


def test_what_databases_keep_of_a_collection_stays_the_same_from_one_release_to_the_next() -> None:
    """Another way of making it would go through every table once."""
    kept = collection(indexes=("done",), scope=("done",))
    assert kept.fingerprint.startswith("7c7fd3889187a08b")
    assert encode_shape(shape_of(kept, 3)).decode() == (
        '{"version":3,"kinds":{"title":"string","done":"boolean"},'
        f'"table_fingerprint":"{kept.fingerprint}","scoped":["done"]}}'
    )


def relation(name: str, from_collection: str, to_collection: str) -> Relation:
    return Relation(
        name=name, from_collection=from_collection, field="ref", to_collection=to_collection, on_delete="cascade"
    )


def test_relations_to_a_collection_are_found_in_order_of_their_names() -> None:
    named = [relation("z", "tasks", "projects"), relation("a", "locks", "projects"), relation("m", "notes", "tasks")]
    schema = Schema(version=1, collections={}, relations={one.name: one for one in named})

    assert [one.name for one in schema.relations_to["projects"]] == ["a", "z"]
    assert [one.name for one in schema.relations_to["tasks"]] == ["m"]
    assert "notes" not in schema.relations_to


def test_only_a_referential_constraint_refers_to_a_collection() -> None:
    where = {"collection": "users"}
    assert Constraint(type="referential", fields=("memberId",), where=where).refers_to == "users"
    assert Constraint(type="referential", fields=("memberId",)).refers_to is None
    assert Constraint(type="unique", fields=("memberId",), where=where).refers_to is None


def test_schemas_are_values() -> None:
    def schema() -> Schema:
        tags = Field(name="tags", kind="array", default=[])
        unique = Constraint(type="unique", fields=("title",), where={"live": [1]})
        return Schema(
            version=2,
            collections={"todos": collection(TITLE, tags, constraints=(unique,))},
            relations={"r": relation("r", "todos", "todos")},
            sync={"todos": SyncRule(collection="todos", where={"title": "key"})},
        )

    assert schema() == schema()
    assert hash(schema()) == hash(schema())
    assert len({schema().collections["todos"], schema().collections["todos"]}) == 1
    assert schema() != replace(schema(), version=3)
    with pytest.raises(FrozenInstanceError):
        schema().version = 3  # type: ignore[misc]


def test_no_collection_may_be_called_like_a_table_of_the_log(tmp_path: Path) -> None:
    file = tmp_path / "kora.db"
    store = SqliteStore(file)
    store.open()
    store.close()

    tables = {
        name for (name,) in apsw.Connection(str(file)).execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
    }
    assert {"operations", "sync_state"} <= tables
    assert {name for name in tables if not name.startswith("sqlite_")} <= RESERVED_TABLES
