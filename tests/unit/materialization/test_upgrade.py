"""From the tables that are there to those a schema wants: in SQLite for real, in PostgreSQL as statements."""

from __future__ import annotations

from typing import Any

import pytest

from kora_daemon.errors import StoreError
from kora_daemon.materialization.columns import Dialect
from kora_daemon.materialization.fold import RecordState
from kora_daemon.materialization.upgrade import PresentTable, Step, checked_columns, plan_upgrade
from kora_daemon.model.schema import Collection, Field, Kind
from tests.support.collection_tables import CollectionTables

SYSTEM_COLUMNS = ["_created_at", "_updated_at", "_deleted"]


def collection(name: str = "todos", indexes: tuple[str, ...] = (), **kinds: Kind) -> Collection:
    fields = {field: Field(name=field, kind=kind) for field, kind in kinds.items()}
    return Collection(name=name, fields=fields, indexes=indexes)


def with_default(kind: Kind, default: Any) -> Collection:
    return Collection(name="todos", fields={"f": Field(name="f", kind=kind, default=default)})


def state(**fields: Any) -> RecordState:
    return RecordState(1, (2, 0, "node-a"), True, fields, {})


def statements(steps: list[Step]) -> list[str]:
    return [statement for step in steps for statement in step.statements]


@pytest.fixture
def tables() -> CollectionTables:
    return CollectionTables()


def test_a_new_collection_gets_a_table_and_its_indexes(tables: CollectionTables) -> None:
    steps = tables.upgrade([collection(title="string", indexes=("title",))])
    assert [(step.summary, step.refill, step.destructive) for step in steps] == [
        ("create table todos", True, False),
        ("create index idx_todos_title on todos.title", False, False),
        ("create index idx_todos__deleted on todos._deleted", False, False),
    ]
    assert tables.indexes("todos") == {"idx_todos_title": ["title"], "idx_todos__deleted": ["_deleted"]}


def test_nothing_is_to_be_done_twice(tables: CollectionTables) -> None:
    wanted = [collection(title="string", body="richtext", indexes=("title",)), collection("Users", email="string")]
    tables.upgrade(wanted)
    assert tables.upgrade(wanted) == []


def test_a_new_field_adds_a_column_and_a_gone_one_stays(tables: CollectionTables) -> None:
    tables.upgrade([collection(title="string", gone="number")])
    (step,) = tables.upgrade([collection(title="string", done="boolean")])
    assert (step.summary, step.refill, step.destructive) == ("add column todos.done (INTEGER)", True, False)
    assert list(tables.present()["todos"].columns) == ["id", "title", "gone", *SYSTEM_COLUMNS, "done"]


def test_another_type_replaces_the_column_and_says_so(tables: CollectionTables) -> None:
    tables.upgrade([collection(count="number", indexes=("count",))])
    tables.write(collection(count="number"), {"r": state(count=5)})
    wanted = collection(count="string", indexes=("count",))
    (step,) = tables.upgrade([wanted])
    assert step.summary == "column todos.count becomes TEXT, is REAL"
    assert (step.collection, step.refill, step.destructive) == ("todos", True, True)
    assert tables.present()["todos"].columns["count"] == "TEXT"
    assert tables.indexes("todos") == {"idx_todos_count": ["count"], "idx_todos__deleted": ["_deleted"]}
    tables.write(wanted, {"r": state(count="five")})
    assert [record["count"] for record in tables.read(wanted)] == ["five"]


def test_a_kind_with_the_same_column_type_changes_no_table(tables: CollectionTables) -> None:
    tables.upgrade([collection(f="string")])
    assert tables.upgrade([collection(f="json")]) == []


def test_a_condition_of_the_reference_is_lifted_without_losing_an_index(tables: CollectionTables) -> None:
    tables.execute(
        """CREATE TABLE IF NOT EXISTS "todos" (
          id TEXT PRIMARY KEY NOT NULL,
          "title" TEXT,
          "priority" TEXT DEFAULT 'low' CHECK ("priority" IN ('low', 'high')),
          _created_at INTEGER NOT NULL DEFAULT 0,
          _updated_at INTEGER NOT NULL DEFAULT 0,
          _deleted INTEGER NOT NULL DEFAULT 0
        )"""
    )
    tables.execute('CREATE INDEX idx_todos_priority ON "todos" ("priority")')
    tables.execute('CREATE INDEX idx_todos__deleted ON "todos" (_deleted)')
    tables.execute('CREATE INDEX by_both ON "todos" ("title", "priority")')
    wanted = collection(title="string", priority="enum", indexes=("priority",))
    (step,) = tables.upgrade([wanted])
    assert step.summary == "lift the condition on column todos.priority"
    assert (step.refill, step.destructive) == (True, False)
    assert tables.indexes("todos") == {
        "by_both": ["title", "priority"],
        "idx_todos__deleted": ["_deleted"],
        "idx_todos_priority": ["priority"],
    }
    tables.write(wanted, {"r": state(priority="medium")})
    assert [record["priority"] for record in tables.read(wanted)] == ["medium"]
    assert tables.upgrade([wanted]) == []


def test_conditions_in_postgresql_go_by_their_names() -> None:
    present = {"todos": PresentTable(postgres_columns(p="text"), {"i": ["_deleted"]}, ["todos_p_check"])}
    (step,) = plan_upgrade([collection(p="enum")], present, Dialect.POSTGRES)
    assert step.statements == ('ALTER TABLE "todos" DROP CONSTRAINT "todos_p_check"',)
    assert (step.refill, step.destructive) == (False, False)


def test_checked_columns_are_found_in_the_words_of_the_reference() -> None:
    sql = """CREATE TABLE "t" ("a" TEXT CHECK ("a" IN ('x')), "b" TEXT DEFAULT 'CHECK (b IN (1))', "c" TEXT)"""
    assert checked_columns(sql) == ["a"]


@pytest.mark.parametrize("id_type", [{"id": "integer"}, {"ID": "BIGINT"}, {"name": "TEXT"}])
def test_a_table_of_somebody_else_is_left_alone(tables: CollectionTables, id_type: dict[str, str]) -> None:
    with pytest.raises(StoreError, match="table todos without a text column id"):
        plan_upgrade([collection(title="string")], {"todos": PresentTable(id_type)}, Dialect.SQLITE)


def test_names_that_sqlite_takes_for_one_are_one(tables: CollectionTables) -> None:
    tables.upgrade([collection("Todos", userid="string", indexes=("userid",))])
    assert tables.upgrade([collection("todos", userId="string", indexes=("userId",))]) == []


def test_names_that_postgresql_tells_apart_are_two() -> None:
    present = {"Todos": PresentTable(postgres_columns(userid="text"), {"i": ["userid"], "j": ["_deleted"]})}
    steps = plan_upgrade([collection("Todos", userId="string", indexes=("userId",))], present, Dialect.POSTGRES)
    assert statements(steps) == [
        'ALTER TABLE "Todos" ADD COLUMN "userId" TEXT',
        'CREATE INDEX "idx_todos_userid" ON "Todos" ("userId")',
    ]


def test_an_index_gets_another_name_when_the_log_has_it(tables: CollectionTables) -> None:
    tables.execute("CREATE TABLE operations (node_id TEXT, sequence_number INTEGER)")
    tables.execute("CREATE INDEX idx_node_seq ON operations (node_id, sequence_number)")
    wanted = [collection("node", seq="number", indexes=("seq",))]
    tables.upgrade(wanted)
    assert tables.indexes("node") == {"idx_node__deleted": ["_deleted"], "idx_node_seq_2": ["seq"]}
    assert tables.upgrade(wanted) == []


def test_collections_whose_index_names_meet_get_one_each(tables: CollectionTables) -> None:
    wanted = [collection("a_b", c="string", indexes=("c",)), collection("a", b_c="string", indexes=("b_c",))]
    tables.upgrade(wanted)
    assert tables.indexes("a_b") == {"idx_a_b__deleted": ["_deleted"], "idx_a_b_c": ["c"]}
    assert tables.indexes("a") == {"idx_a__deleted": ["_deleted"], "idx_a_b_c_2": ["b_c"]}
    assert tables.upgrade(wanted[::-1]) == []


def test_an_index_never_takes_the_name_of_a_collection(tables: CollectionTables) -> None:
    wanted = [collection("a", b="string", indexes=("b",)), collection("idx_a_b", c="string")]
    tables.upgrade(wanted)
    assert "idx_a_b_2" in tables.indexes("a")


def test_long_names_stay_apart_in_postgresql() -> None:
    fields: dict[str, Kind] = {"f" * 70 + "1": "string", "f" * 50 + "2": "string"}
    steps = plan_upgrade([collection("t" * 70, tuple(fields), **fields)], {}, Dialect.POSTGRES)
    names = [statement.split('"')[1] for statement in statements(steps)[1:]]
    assert [len(name) for name in names] == [63, 63, 63]
    assert len(set(names)) == 3
    cut = PresentTable(
        postgres_columns(**{name[:63]: "text" for name in fields}),
        {name: [column[:63]] for name, column in zip(names, (*fields, "_deleted"), strict=True)},
    )
    again = plan_upgrade([collection("t" * 70, tuple(fields), **fields)], {"t" * 63: cut}, Dialect.POSTGRES)
    assert again == []


@pytest.mark.parametrize(
    ("kind", "default", "literal"),
    [
        ("string", "it's", "it's"),
        ("string", "nul\0 \ud800 \\", "nul\ufffd \ufffd \\"),
        ("string", "", ""),
        ("enum", "low", "low"),
        ("number", 0, 0.0),
        ("number", -1.5e-7, -1.5e-7),
        ("timestamp", 1_700_000_000_000, 1_700_000_000_000),
        ("boolean", False, 0),
        ("boolean", True, 1),
        ("array", ["it's", "\0"], '["it\'s","\\u0000"]'),
        ("object", {}, "{}"),
        ("json", "text", '"text"'),
        ("json", 7, "7"),
        ("blob", {"size": 1}, '{"size":1}'),
        ("richtext", {"$koraBytes": "AQID"}, b"\x01\x02\x03"),
        ("richtext", "text", "text"),
        ("number", "no number", None),
    ],
)
def test_a_default_is_what_a_bare_insert_gets(tables: CollectionTables, kind: Kind, default: Any, literal: Any) -> None:
    tables.upgrade([with_default(kind, default)])
    tables.execute("INSERT INTO todos (id) VALUES ('r')")
    assert tables.execute("SELECT f, _created_at, _updated_at, _deleted FROM todos") == [(literal, 0, 0, 0)]


@pytest.mark.parametrize(
    ("kind", "default", "literal"),
    [("richtext", "é", "'\\xc3a9'::bytea"), ("string", "it's", "'it''s'"), ("json", ["\0"], "'[\"\ufffd\"]'")],
)
def test_defaults_in_postgresql_have_its_forms(kind: Kind, default: Any, literal: str) -> None:
    (creation, *_) = statements(plan_upgrade([with_default(kind, default)], {}, Dialect.POSTGRES))
    assert f" DEFAULT {literal}, " in creation


def test_names_with_quotes_and_words_of_sql_are_names(tables: CollectionTables) -> None:
    fields: dict[str, Kind] = {'a"b': "string", "order": "number"}
    tables.upgrade([collection("select", (), **fields)])
    assert list(tables.present()["select"].columns) == ["id", 'a"b', "order", *SYSTEM_COLUMNS]


def postgres_columns(**fields: str) -> dict[str, str]:
    """The columns of a table as PostgreSQL lists them."""
    return {"id": "text", **fields, "_created_at": "bigint", "_updated_at": "bigint", "_deleted": "integer"}
