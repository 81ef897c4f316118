"""The commands for records and backups, as an operator uses them: what they print, what they leave, how they end."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
from pathlib import Path
from typing import Any

import pytest
import trio

from kora_daemon.materialization.shape import Refill
from tests.support.app import device
from tests.support.cli import CONFIG, Ended, Kora, schema_text
from tests.support.network import connected, eventually
from tests.support.process import Daemon
from tests.support.records import Node, apply, stamps

KINDS: dict[str, Any] = {
    "title": "string",
    "n": "number",
    "done": "boolean",
    "at": "timestamp",
    "body": "richtext",
    "kind": {"kind": "enum", "enumValues": ["a", "b"]},
    "tags": {"kind": "array", "itemKind": "string"},
    "meta": "json",
}
SCHEMA = schema_text(todos=KINDS, lists={"name": "string"})
UNIQUE = {"users": [{"type": "unique", "fields": ["email"], "onConflict": "server-decides"}]}
RELATED = schema_text(
    users={"email": "string"},
    todos={"user": "string"},
    locks={"user": "string"},
    constraints=UNIQUE,
    relations={
        "todoOfUser": {"from": "todos", "to": "users", "field": "user", "onDelete": "cascade"},
        "lockOfUser": {"from": "locks", "to": "users", "field": "user", "onDelete": "restrict"},
    },
)


@pytest.fixture
def kora(tmp_path: Path) -> Kora:
    """With a schema and its tables."""
    made = Kora(tmp_path, SCHEMA)
    assert made("migrate").code == 0
    return made


def fill(kora: Kora, *operations: Any) -> None:
    """Put operations into the log, and what they make into the tables."""
    with kora.store() as store:
        for first in range(0, len(operations), 1_000):
            apply(store, *operations[first : first + 1_000])


def refused(ended: Ended, *words: str, code: int = 1) -> None:
    """The command failed with sentences that say these words, and nothing else."""
    assert (ended.code, ended.out) == (code, "")
    assert "Traceback" not in ended.err
    assert "inside kora" not in ended.err
    for line in ended.err.splitlines():
        assert line.startswith("kora: ")
    for word in words:
        assert word in ended.err


def misused(ended: Ended, *words: str) -> None:
    """The command line was wrong."""
    assert (ended.code, ended.out) == (2, "")
    for word in words:
        assert word in ended.err


# -- migrate ----------------------------------------------------------------------------------------------------------

FIRST = [
    "create table todos",
    "create index idx_todos__deleted on todos._deleted",
    "create table lists",
    "create index idx_lists__deleted on lists._deleted",
]
DONE = "The tables are those of the schema.\n"


def test_migrate_makes_the_tables_once(tmp_path: Path) -> None:
    kora = Kora(tmp_path, SCHEMA)
    ended = kora.child("migrate")
    assert (ended.code, ended.out) == (0, "\n".join(FIRST) + f"\n{DONE}")
    before = kora.tables(), kora.contents()
    again = kora("migrate")
    assert (again.code, again.out, again.err.strip()) == (0, DONE, "")
    assert (kora.tables(), kora.contents()) == before


def test_a_dry_run_prints_the_sql_and_changes_no_table(tmp_path: Path) -> None:
    kora = Kora(tmp_path, SCHEMA)
    planned = kora("migrate", "--dry-run")
    assert planned.code == 0
    assert planned.err == ""
    assert [line.removeprefix("-- ") for line in planned.out.splitlines() if line.startswith("-- ")] == [
        *FIRST,
        "make the rows of todos from the log",
        "make the rows of lists from the log",
    ]
    assert not any("todos" in str(one) or "lists" in str(one) for one in kora.tables())
    twin = Kora(_folder(tmp_path / "twin"), SCHEMA)
    twin("migrate")
    for statement in planned.out.split(";"):
        kora.sql(statement)
    assert kora.tables() == twin.tables()
    assert twin("migrate", "--dry-run").out == "-- the tables are those of the schema\n"


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_a_dry_run_on_tables_with_rows_changes_nothing(kora: Kora, node: Node) -> None:
    fill(kora, node.insert("a", {"title": "x", "later": 5}))
    kora.use(
        schema_text(
            2, todos={**KINDS, "later": "number", "title": "number"}, lists={"name": "string"}, more={"x": "json"}
        )
    )
    before = kora.tables(), kora.contents()
    planned = kora("migrate", "--dry-run")
    assert planned.code == 0
    assert "-- add column todos.later (REAL)\n" in planned.out
    assert "-- column todos.title becomes REAL, is TEXT (needs --allow-destructive)\n" in planned.out
    assert "-- make the rows of todos from the states kept beside them\n" in planned.out
    assert "-- make the rows of more from the log\n" in planned.out
    assert (kora.tables(), kora.contents()) == before


@pytest.fixture
def node() -> Node:
    return Node()


def test_migrate_fills_new_fields_and_collections_from_the_log(kora: Kora, node: Node) -> None:
    fill(
        kora,
        node.insert("a", {"title": "x", "later": 5}),
        node.insert("b", {"title": "y"}),
        node.delete("b"),
        node.insert("n", {"text": "t"}, collection="notes"),
    )
    kora.use(schema_text(2, todos={**KINDS, "later": "number"}, lists={"name": "string"}, notes={"text": "string"}))
    ended = kora("migrate")
    assert ended.code == 0
    assert ended.out.splitlines() == [
        "add column todos.later (REAL)",
        "create table notes",
        "create index idx_notes__deleted on notes._deleted",
        DONE.strip(),
    ]
    assert [(one["id"], one["later"]) for one in kora("query", "todos", "--format", "json").json] == [("a", 5)]
    assert kora("count", "notes", "--where", "text=t").out == "1\n"
    assert kora("count", "todos").out == "1\n"
    with kora.store() as store:
        assert stamps(store) == {
            "node-a:1": {"title": "x", "later": 5},  # it has a value that stamps knew nothing of
            "node-a:2": {},
            "node-a:3": {"title": "y"},
            "node-a:4": {"text": "t"},
        }


def test_a_field_of_another_type_needs_consent(kora: Kora, node: Node) -> None:
    fill(kora, node.insert("a", {"title": "x", "n": 1}), node.update("a", {"n": "2"}), node.insert("b", {"n": "text"}))
    kora.use(schema_text(2, todos={**KINDS, "n": "string"}, lists={"name": "string"}))
    before = kora.tables(), kora.contents()
    ended = kora.child("migrate")
    refused(ended, "column todos.n becomes TEXT, is REAL", "kora migrate --dry-run", "kora migrate --allow-destructive")
    assert (kora.tables(), kora.contents()) == before
    refused(kora("query", "todos"), "kora migrate")
    refused(kora("backfill"), "kora migrate")
    refused(kora("apply", "delete", "todos", "a"), "kora migrate")
    assert (kora.tables(), kora.contents()) == before

    ended = kora("migrate", "--allow-destructive")
    assert (ended.code, ended.out) == (0, f"column todos.n becomes TEXT, is REAL\n{DONE}")
    assert [one["n"] for one in kora("query", "todos", "--format", "json").json] == ["2", "text"]
    assert kora("migrate").out == DONE


def test_commands_for_records_need_a_schema(tmp_path: Path) -> None:
    kora = Kora(tmp_path)
    for command in (["migrate"], ["migrate", "--dry-run"], ["backfill"], ["query", "todos"], ["count", "todos"]):
        refused(kora(*command), "schema (", "kora.toml", "is missing", code=78)
    assert not kora.database.exists()


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"version": 1, "collections": {}}', schema_text(operations={"x": "json"})]
)
def test_a_schema_that_can_not_be_used_is_a_configuration_error(tmp_path: Path, text: str) -> None:
    kora = Kora(tmp_path, text)
    for command in (
        ["migrate"],
        ["backfill"],
        ["query", "todos"],
        ["count", "todos"],
        ["apply", "delete", "todos", "x"],
    ):
        refused(kora(*command), "schema.json", code=78)


def test_a_memory_store_has_nothing_to_look_at(tmp_path: Path) -> None:
    kora = Kora(tmp_path, SCHEMA, CONFIG.replace("[store]", '[store]\nkind = "memory"'))
    (tmp_path / "in.kora").write_bytes(b"")
    commands = [["migrate"], ["backfill"], ["query", "todos"], ["count", "todos"], ["apply", "delete", "todos", "x"]]
    for command in (*commands, ["backup", str(tmp_path / "out.kora")], ["restore", str(tmp_path / "in.kora")]):
        refused(kora(*command), 'store.kind is "memory"', "the running daemon")
    assert not (tmp_path / "out.kora").exists()


@pytest.mark.parametrize(
    "command",
    [
        ["backfill"],
        ["query", "todos"],
        ["count", "todos"],
        ["backup", "{}/out.kora"],
        ["blobs", "gc"],
        ["apply", "insert", "todos", "--data", "{{}}"],
    ],
    ids=lambda command: command[0],
)
def test_what_needs_a_database_makes_none(tmp_path: Path, command: list[str]) -> None:
    kora = Kora(tmp_path, SCHEMA, f'{CONFIG}path = "wrong.db"\n[blobs]\nkind = "directory"\n')
    (tmp_path / "blobs").mkdir()
    refused(
        kora(*(one.format(tmp_path) for one in command)), f"{tmp_path}/wrong.db: there is no such file", "store.path"
    )
    assert list(tmp_path.glob("wrong.db*")) == list(tmp_path.glob("out*")) == []


# -- backfill ---------------------------------------------------------------------------------------------------------


def damage(kora: Kora, node: Node) -> list[dict[str, Any]]:
    """Records whose rows are spoilt afterwards; the todos as they should be."""
    fill(
        kora,
        *(node.insert(f"t{number}", {"title": f"{number}", "n": number}) for number in range(3)),
        node.delete("t2"),
        node.insert("l", {"name": "l"}, collection="lists"),
    )
    records: list[dict[str, Any]] = kora("query", "todos", "--include-deleted", "--format", "json").json
    kora.sql("UPDATE todos SET title = 'wrong', _deleted = 0")
    kora.sql("DELETE FROM todos WHERE id = 't1'")
    kora.sql("DELETE FROM kora_records WHERE record_id = 't0'")
    kora.sql("INSERT INTO todos (id, title) VALUES ('ghost', 'boo')")
    kora.sql("UPDATE lists SET name = 'wrong'")
    return records


def todos(kora: Kora) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = kora("query", "todos", "--include-deleted", "--format", "json").json
    return found


def list_name(kora: Kora) -> str:
    return str(kora("query", "lists", "--format", "json").json[0]["name"])


def test_backfill_makes_all_rows_again_from_the_log(kora: Kora, node: Node) -> None:
    records = damage(kora, node)
    ended = kora.child("backfill")
    assert (ended.code, ended.out) == (0, "All rows are those of the log.\n")
    assert "todos" in ended.err
    assert "4/4" in ended.err
    assert todos(kora) == records
    assert list_name(kora) == "l"
    before = kora.contents()
    assert kora("backfill").code == 0
    assert kora.contents() == before


def test_backfill_can_be_for_some_collections(kora: Kora, node: Node) -> None:
    records = damage(kora, node)
    ended = kora("backfill", "--collection", "todos")
    assert ended.code == 0
    assert "lists" not in ended.err
    assert (todos(kora), list_name(kora)) == (records, "wrong")
    assert kora("backfill", "--collection", "lists", "--collection", "todos", "--collection", "lists").code == 0
    assert (todos(kora), list_name(kora)) == (records, "l")


def test_backfill_goes_on_where_one_was_cut_short(kora: Kora, node: Node) -> None:
    records = damage(kora, node)
    with kora.store() as store, store.transaction() as tx:
        tx.set_refill("todos", Refill("log", "t0"))
    ended = kora("backfill", "--collection", "todos")
    assert ended.code == 0
    assert "3/3" in ended.err
    found = todos(kora)
    assert [one["title"] for one in found] == ["boo", "wrong", "1", "2"]
    assert found[2:] == records[1:]


def test_backfill_of_an_unknown_collection_changes_nothing(kora: Kora, node: Node) -> None:
    damage(kora, node)
    before = kora.contents()
    refused(kora("backfill", "--collection", "todos", "--collection", "todoz"), kora("query", "todoz").err)
    assert kora.contents() == before


def test_backfill_before_migrate_says_so(tmp_path: Path) -> None:
    kora = Kora(tmp_path, SCHEMA)
    refused(kora("backfill"), "kora migrate")
    refused(kora("query", "todos"), "kora migrate")


# -- query ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def filled(kora: Kora, node: Node) -> Kora:
    """With four todos, a deleted one among them."""
    fill(
        kora,
        node.insert(
            "a",
            {
                "title": 'é, "x"\n東😀',
                "n": 1.5,
                "done": True,
                "at": 1_700_000_000_000,
                "body": {"$koraBytes": "AQID"},
                "kind": "a",
                "tags": ["x", "ü"],
                "meta": {"b": [None, True], "a": 1},
            },
        ),
        node.insert("b", {"title": "5", "n": 5, "done": False, "body": "plain", "meta": "5", "tags": []}),
        node.insert("c", {"title": "true", "n": -2, "kind": "b", "meta": None}),
        node.insert("d", {"title": "gone", "n": 7}),
        node.delete("d"),
    )
    return kora


COLUMNS = "id,title,n,done,at,body,kind,tags,meta,_created_at,_updated_at"


def test_csv_is_written_exactly(filled: Kora) -> None:
    ended = filled.child("query", "todos", "--format", "csv")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == (
        f"{COLUMNS}\n"
        'a,"é, ""x""\n東😀",1.5,true,1700000000000,"{""$koraBytes"": ""AQID""}",a,"[""x"", ""ü""]",'
        '"{""b"": [null, true], ""a"": 1}",1,1\n'
        "b,5,5,false,,plain,,[],5,2,2\n"
        "c,true,-2,,,,b,,,3,3\n"
    )


def test_json_is_written_exactly(filled: Kora) -> None:
    ended = filled.child("query", "todos", "--format", "json")
    assert (ended.code, ended.err) == (0, "")
    rest = '"at": null, "body": null, "kind": "b", "tags": null, "meta": null, "_created_at": 3, "_updated_at": 3}'
    assert ended.out == (
        "[\n"
        '{"id": "a", "title": "é, \\"x\\"\\n東😀", "n": 1.5, "done": true, "at": 1700000000000, '
        '"body": {"$koraBytes": "AQID"}, "kind": "a", "tags": ["x", "ü"], "meta": {"b": [null, true], "a": 1}, '
        '"_created_at": 1, "_updated_at": 1},\n'
        '{"id": "b", "title": "5", "n": 5, "done": false, "at": null, "body": "plain", "kind": null, "tags": [], '
        '"meta": "5", "_created_at": 2, "_updated_at": 2},\n'
        f'{{"id": "c", "title": "true", "n": -2, "done": null, {rest}\n'
        "]\n"
    )


def test_a_table_is_written_exactly(filled: Kora) -> None:
    ended = filled.child("query", "todos", "--where", "n=5")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == (
        "┏━━━━┳━━━━━━━┳━━━┳━━━━━━━┳━━━━┳━━━━━━━┳━━━━━━┳━━━━━━┳━━━━━━┳━━━━━━━━━━━━━┳━━━━━━━━━━━━━┓\n"
        "┃ id ┃ title ┃ n ┃ done  ┃ at ┃ body  ┃ kind ┃ tags ┃ meta ┃ _created_at ┃ _updated_at ┃\n"
        "┡━━━━╇━━━━━━━╇━━━╇━━━━━━━╇━━━━╇━━━━━━━╇━━━━━━╇━━━━━━╇━━━━━━╇━━━━━━━━━━━━━╇━━━━━━━━━━━━━┩\n"
        "│ b  │ 5     │ 5 │ false │    │ plain │      │ []   │ 5    │           2 │           2 │\n"
        "└────┴───────┴───┴───────┴────┴───────┴──────┴──────┴──────┴─────────────┴─────────────┘\n"
    )


def test_nothing_found_is_no_error(filled: Kora) -> None:
    nothing = ("query", "todos", "--where", "n=99")
    assert filled(*nothing, "--format", "json") == Ended(0, "[]\n", "")
    assert filled(*nothing, "--format", "csv") == Ended(0, f"{COLUMNS}\n", "")
    assert filled(*nothing).code == 0


def found(kora: Kora, *arguments: str) -> list[str]:
    ended = kora("query", "todos", "--format", "json", *arguments)
    assert ended.err == ""
    return [record["id"] for record in ended.json]


WHERE = {
    "title=5": ["b"],
    "title=": [],
    "title=true": ["c"],
    'title:="5"': ["b"],
    "title:=5": [],
    "title:=null": [],
    'title=é, "x"\n東😀': ["a"],
    "n=5": ["b"],
    "n=5.0": ["b"],
    "n=1.5": ["a"],
    "n=-2": ["c"],
    'n:="5"': [],
    "n=null": [],
    "done=true": ["a"],
    "done=false": ["b"],
    "done:=null": ["c"],
    "done=null": ["c"],
    "done=1": [],
    "at=1700000000000": ["a"],
    "body=plain": ["b"],
    'body:={"$koraBytes":"AQID"}': ["a"],
    "kind=b": ["c"],
    "tags=[]": ["b"],
    'tags:=["x", "ü"]': ["a"],
    'meta={"a":1,"b":[null,true]}': ["a"],
    'meta="5"': ["b"],
    "meta=5": [],
    "meta=null": ["c"],
    "id=a": ["a"],
    "id=d": [],
    "_created_at=2": ["b"],
    "_deleted=0": ["a", "b", "c"],
    "_deleted=1": [],
}


def test_where_is_read_by_the_kind_of_its_field(filled: Kora) -> None:
    assert {one: found(filled, "--where", one) for one in WHERE} == WHERE
    counted = {one: filled("count", "todos", "--where", one).out for one in WHERE}
    assert counted == {one: f"{len(expected)}\n" for one, expected in WHERE.items()}


def test_several_conditions_have_to_be_met_together(filled: Kora) -> None:
    assert found(filled, "--where", "done=true", "--where", "kind=a") == ["a"]
    assert found(filled, "--where", "done=true", "--where", "kind=b") == []
    assert filled("count", "todos", "--where", "done=false", "--where", "n=5").out == "1\n"
    assert filled("count", "todos").out == "3\n"


def test_order_limit_and_offset(filled: Kora) -> None:
    assert found(filled, "--order-by", "n") == ["c", "a", "b"]
    assert found(filled, "--order-by", "n", "--desc") == ["b", "a", "c"]
    assert found(filled, "--order-by", "done") == ["b", "a", "c"]
    assert found(filled, "--order-by", "done", "--desc") == ["a", "b", "c"]
    assert found(filled, "--order-by", "n", "--limit", "1") == ["c"]
    assert found(filled, "--order-by", "n", "--limit", "1", "--offset", "1") == ["a"]
    assert found(filled, "--offset", "2") == ["c"]
    assert found(filled, "--limit", "0") == []
    assert found(filled, "--offset", "9") == []
    assert found(filled, "--include-deleted") == ["a", "b", "c", "d"]
    assert found(filled, "--include-deleted", "--where", "_deleted=1") == ["d"]


def test_what_there_is_not_is_named_with_what_there_is(filled: Kora) -> None:
    for command in ("query", "count"):
        refused(filled(command, "todoz"), "'todoz'", "todos, lists")
        for where in ("titel=x", "titel:=1", "=x", ":=1"):
            refused(filled(command, "todos", "--where", where), "todos has no field", "title", "_created_at")
    refused(filled("query", "todos", "--order-by", "titel"), "'titel'", "title")


def test_a_condition_that_is_none_is_a_usage_error(filled: Kora) -> None:
    for command in ("query", "count"):
        misused(filled(command, "todos", "--where", "title"), "'title' has no =", "--where")
        for where in ("n=abc", "done=yes", "meta={", "title:=x", "n="):
            misused(filled(command, "todos", "--where", where), "is no JSON", "--where")
        misused(filled(command, "todos", "--where", "n=1", "--where", "n:=2"), "n is given twice", "--where")
    for wrong in (["--limit", "-1"], ["--offset", "-1"], ["--limit", "x"], ["--format", "xml"]):
        misused(filled("query", "todos", *wrong))


def test_half_characters_are_shown_somehow(kora: Kora, node: Node) -> None:
    """The log holds them, and so does a json field: a query must not stop at them."""
    fill(
        kora, node.insert("a", {"title": "\ud800", "meta": {"\ud800": "\udfff"}}), node.insert("b", {"meta": "\udfff"})
    )
    for form in ("json", "csv", "table"):
        ended = kora("query", "todos", "--format", form)
        assert (ended.code, ended.err) == (0, ""), form
    metas = [one["meta"] for one in kora("query", "todos", "--format", "json").json]
    assert metas == [{"\ud800": "\udfff"}, "\udfff"]


def test_no_text_of_a_device_controls_the_terminal(kora: Kora, node: Node) -> None:
    fill(kora, node.insert("a", {"title": "\x1b]0;mine\x07\x1b[31mred\r\n", "meta": ["\x9b31m", "\x1b[2J"]}))
    for form, controls in (("table", "\x1b\x07\x9b\r"), ("json", "\x1b\x07\r")):
        ended = kora("query", "todos", "--format", form)
        assert ended.code == 0
        assert "mine" in ended.out
        assert not [control for control in controls if control in ended.out], form


def test_markup_is_no_markup(kora: Kora, node: Node) -> None:
    fill(kora, node.insert("[bold]a[/bold]", {"title": "[red]:smile:[/nothing] [link=x]"}))
    ended = kora("query", "todos")
    assert "[bold]a[/bold]" in ended.out
    assert "[red]:smile:[/nothing] [link=x]" in ended.out


def test_long_texts_are_cut_in_a_table_only(kora: Kora, node: Node) -> None:
    long = {"title": "x" * 500, "meta": ["y" * 500], "body": "z" * 500, "tags": ["w" * 500]}
    fill(kora, node.insert("a", long))
    table = kora("query", "todos").out
    for cell in ("x" * 59, f'["{"y" * 57}', "z" * 59, f'["{"w" * 57}'):
        assert f"│ {cell}… │" in table.splitlines()[3]  # wider than any terminal, and in one line all the same
    assert "x" * 60 not in table
    for form in ("json", "csv"):
        assert "x" * 500 in kora("query", "todos", "--format", form).out


# -- many -------------------------------------------------------------------------------------------------------------

MANY = 2_345


@pytest.fixture
def many(kora: Kora, node: Node) -> Kora:
    fill(kora, *(node.insert(f"r{number:05}", {"n": number % 7, "done": number % 2 == 0}) for number in range(MANY)))
    return kora


def test_more_records_than_a_page(many: Kora) -> None:
    ids = [f"r{number:05}" for number in range(MANY)]
    assert found(many) == ids
    assert found(many, "--limit", "1500", "--offset", "800") == ids[800:2300]
    for limit in (999, 1_000, 1_001, 2_000, 2_001, MANY, 9_999):
        assert found(many, "--limit", str(limit)) == ids[:limit]
    by_n = sorted(ids, key=lambda one: -(int(one[1:]) % 7))
    assert found(many, "--order-by", "n", "--desc") == by_n
    assert found(many, "--where", "done=true", "--offset", "100") == ids[200::2]
    lines = many("query", "todos", "--format", "csv").out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["id", *ids]
    assert many("count", "todos").out == f"{MANY}\n"


def test_a_table_has_an_end_and_says_so(many: Kora) -> None:
    ended = many("query", "todos")
    assert ended.code == 0
    assert len(ended.out.splitlines()) == 1_000 + 4
    assert ended.err == "kora: only the first 1000 records are shown; --format csv or json has all\n"
    assert many("query", "todos", "--limit", "1000").err == ""


def test_a_reader_that_has_seen_enough_is_no_error(many: Kora) -> None:
    with many.begun("query", "todos", "--format", "json") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "[\n"
        process.stdout.close()
        assert process.stderr is not None
        said = process.stderr.read()
    assert said == ""


@pytest.mark.parametrize("command", [["query", "todos", "--format", "json"], ["query", "todos"], ["count", "todos"]])
def test_an_output_that_can_not_be_written_is_one_sentence_about_that(many: Kora, command: list[str]) -> None:
    with open("/dev/full", "w") as full, many.begun(*command, stdout=full) as process:
        _, err = process.communicate()
    refused(Ended(process.returncode, "", err), "No space left on device")
    assert "kora.db" not in err


# -- apply ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def related(tmp_path: Path) -> Kora:
    made = Kora(tmp_path, RELATED)
    assert made("migrate").code == 0
    return made


def test_apply_inserts_updates_and_deletes(kora: Kora) -> None:
    inserted = kora.child("apply", "insert", "todos", "--data", '{"title": "é", "n": 1, "tags": ["x"]}').json
    (record_id,) = inserted["recordIds"]
    (operation,) = inserted["operations"]
    assert inserted == {"result": "applied", "recordIds": [record_id], "operations": [operation]}
    assert len(record_id) == 36
    assert len(operation) == 64
    atomic = {"n": {"type": "increment", "value": 2}, "tags": {"type": "append", "value": "y"}}
    updated = kora(
        "apply", "update", "todos", record_id, "--data", '{"title": "u"}', "--atomic", json.dumps(atomic)
    ).json
    assert updated["recordIds"] == [record_id]
    (shown,) = kora("query", "todos", "--format", "json").json
    assert (shown["title"], shown["n"], shown["tags"]) == ("u", 3, ["x", "y"])
    assert kora("apply", "delete", "todos", record_id).json["result"] == "applied"
    assert kora("count", "todos").out == "0\n"
    with kora.store() as store:
        entries = store.entries_after(0, 10)
        assert [one.operation.sequence_number for one in entries] == [1, 2, 3]
        assert {one.operation.node_id for one in entries} == {store.node_id}
        assert {one.operation.schema_version for one in entries} == {1}
        assert None not in [one.stamp for one in entries]


def test_apply_takes_a_given_id_and_data_from_stdin(kora: Kora) -> None:
    ended = kora("apply", "insert", "todos", "mine", "--data", "-", stdin='{"title": "in"}')
    assert ended.json["recordIds"] == ["mine"]
    assert [one["title"] for one in kora("query", "todos", "--format", "json").json] == ["in"]


def test_apply_names_fields_that_the_schema_does_not_have(kora: Kora) -> None:
    ended = kora("apply", "insert", "todos", "a", "--data", '{"titel": "Paint", "n": 1}')
    assert ended.json["result"] == "applied"
    assert ended.err.splitlines() == [
        "kora: todos has no field 'titel'; did you mean 'title'? The log has it, records don't show it"
    ]
    increment = '{"votes": {"type": "increment", "value": 1}}'
    ended = kora("apply", "update", "todos", "a", "--atomic", increment, "--if", '{"n": {"$eq": 1}}')
    assert "todos has no field 'votes'; it has title, n, " in ended.err
    ended = kora("apply", "update", "todos", "a", "--data", "{}", "--if", '{"titel": {"$eq": 1}, "id": {"$ne": ""}}')
    refused(ended, "todos has no field 'titel'; did you mean 'title'? The condition finds nothing there", "CONDITION")
    # What was not written is not told of, nor what is fine.
    refused(kora("apply", "update", "todos", "a", "--data", '{"titel": ""}', "--if", '{"n": {"$eq": 2}}'), "CONDITION")
    assert kora("apply", "update", "todos", "a", "--data", '{"title": "Paint"}').err == ""


def test_apply_can_depend_on_the_record(kora: Kora) -> None:
    kora("apply", "insert", "todos", "a", "--data", '{"n": 1}')
    more = ("apply", "update", "todos", "a", "--atomic", '{"n": {"type": "increment", "value": 1}}', "--if")
    assert kora(*more, '{"n": {"$lt": 2}}').json["result"] == "applied"
    refused(kora(*more, '{"n": {"$lt": 2}}'), "refused: The condition does not hold (CONDITION_NOT_MET)")
    assert kora(*more, "{}").code == 0
    refused(kora(*more, '{"n": {"$near": 2}}'), "$near", "$lt")
    refused(kora(*more, '{"n": 2}'), "'n'")
    refused(kora("apply", "update", "todos", "nobody", "--data", '{"n": 1}', "--if", '{"n": {"$lt": 9}}'), "CONDITION")
    assert [one["n"] for one in kora("query", "todos", "--format", "json").json] == [3]
    misused(kora("apply", "insert", "todos", "--data", "{}", "--if", "{}"), "--if")
    misused(kora("apply", "delete", "todos", "a", "--if", "{}"), "--if")
    misused(kora("apply", "update", "todos", "--data", "{}", "--if", "{}"), "--if")


@pytest.mark.parametrize(("accepted_scope", "order"), [("full", [1, 3]), ("collections", [4, 5])])
def test_apply_moves_a_record_as_the_daemon_would(tmp_path: Path, accepted_scope: str, order: list[int]) -> None:
    auth = f'[auth]\nkind = "token"\nsource = "static"\naccepted_scope = "{accepted_scope}"\n'
    row = '[[auth.tokens]]\ntoken = "t"\nuser = "ali"\nscopes = { todos = { owner = "ali" } }\n'
    kora = Kora(tmp_path, schema_text(todos={"owner": "string", "n": "number"}), f"{CONFIG}\n{auth}{row}")
    assert kora("migrate").code == 0
    for name in ("a", "b"):
        assert kora("apply", "insert", "todos", name, "--data", '{"owner": "bea"}').code == 0
    assert kora("apply", "update", "todos", "a", "--data", '{"owner": "ali"}').json["result"] == "applied"
    rows = kora.sql("SELECT delivery_seq FROM operations WHERE record_id = 'a' ORDER BY sequence_number")
    assert [number for (number,) in rows] == order


def test_apply_is_judged_and_cascades(related: Kora) -> None:
    for command in (["users", "u", "--data", '{"email": "x"}'], ["todos", "t", "--data", '{"user": "u"}']):
        assert related("apply", "insert", *command).code == 0
    taken = related("apply", "insert", "users", "v", "--data", '{"email": "x"}')
    refused(taken, "refused: another record of users has the same email (CONSTRAINT_VIOLATION)")
    refused(
        related("apply", "update", "users", "u", "--data", '{"email": 5}'),
        "users.email must be a text",
        "INVALID_VALUE",
    )
    assert related("apply", "insert", "locks", "l", "--data", '{"user": "u"}').code == 0
    refused(related("apply", "delete", "users", "u"), "lockOfUser", "REFERENTIAL_INTEGRITY")
    assert related("apply", "delete", "locks", "l").code == 0
    deleted = related("apply", "delete", "users", "u").json
    assert (deleted["recordIds"], len(deleted["operations"])) == (["u"], 2)
    assert related("count", "todos").out == "0\n"


def test_apply_refuses_what_is_no_change(kora: Kora) -> None:
    before = kora.contents()
    refused(kora("apply", "insert", "todoz", "--data", "{}"), "'todoz'", "todos, lists", "INVALID_OPERATION")
    refused(kora("apply", "update", "todos", "--data", "{}"), "MISSING_RECORD_ID")
    refused(kora("apply", "delete", "todos"), "MISSING_RECORD_ID")
    refused(kora("apply", "insert", "todos"), "needs data")
    refused(kora("apply", "update", "todos", "a"), "needs data")
    refused(kora("apply", "insert", "todos", "a", "--atomic", "{}", "--data", "{}", "--atomic", '{"n": 1}'), "atomic")
    for wrong in ("{", "[]", "5", "", '"x"', "null"):
        for option in ("--data", "--atomic"):
            misused(kora("apply", "update", "todos", "a", option, wrong), option)
        misused(kora("apply", "update", "todos", "a", "--data", "{}", "--if", wrong), "--if")
    misused(kora("apply", "upsert", "todos", "--data", "{}"))
    misused(kora("apply", "insert"))
    misused(kora("apply", "insert", "todos", "--data", "-", stdin="{"), "--data")
    assert kora.contents() == before


def test_a_log_that_apply_has_written_to_can_be_backed_up(kora: Kora, tmp_path: Path) -> None:
    for number, record_id in enumerate(("x" * 255, "x" * 256, "é\n")):
        kora("apply", "insert", "todos", record_id, "--data", json.dumps({"n": number}))
    kora("apply", "insert", "todos", "nan", "--data", '{"n": NaN, "meta": [Infinity, -1e999, 1e22]}')
    ended = kora("backup", str(tmp_path / "out.kora"))
    assert (ended.code, ended.err) == (0, "")


def test_an_id_that_is_no_text_is_refused_in_a_sentence(kora: Kora) -> None:
    with kora.begun("apply", "insert", "todos", "\udcff", "--data", "{}") as process:
        out, err = process.communicate()
    refused(Ended(process.returncode, out, err))


def test_apply_without_a_schema_writes_to_the_log_alone(tmp_path: Path) -> None:
    kora = Kora(tmp_path)
    with kora.store():
        pass  # there is one
    assert kora("apply", "insert", "anything", "x", "--data", '{"a": 1}').json["recordIds"] == ["x"]
    with kora.store() as store:
        assert store.materialize_collection("anything") == [{"id": "x", "a": 1}]


def test_apply_goes_down_as_many_levels_as_the_configuration_says(tmp_path: Path) -> None:
    relation = {"from": "parts", "to": "parts", "field": "of", "onDelete": "cascade"}
    kora = Kora(tmp_path, schema_text(parts={"of": "string"}, relations={"partOfPart": relation}))
    kora.config.write_text(f"{CONFIG}\n[records]\ncascade_levels = 2\n")
    kora("migrate")
    for number in range(1, 5):
        kora("apply", "insert", "parts", f"p{number}", "--data", json.dumps({"of": f"p{number - 1}"}))
    assert len(kora("apply", "delete", "parts", "p1").json["operations"]) == 3
    assert [one["id"] for one in kora("query", "parts", "--format", "json").json] == ["p4"]


# -- backup -----------------------------------------------------------------------------------------------------------


def test_a_backup_is_a_new_file_for_its_owner(filled: Kora, tmp_path: Path) -> None:
    target = tmp_path / "out.kora"
    ended = filled.child("backup", str(target))
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"Wrote {target}, {target.stat().st_size:,} bytes.\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    before = target.read_bytes()
    refused(filled("backup", str(target)), str(target), "there already", "name another file")
    assert target.read_bytes() == before
    assert sorted(tmp_path.glob("out*")) == [target]


def test_a_backup_that_can_not_be_written_is_one_sentence(filled: Kora, tmp_path: Path) -> None:
    refused(filled("backup", str(tmp_path / "nowhere" / "out.kora")), "nowhere", "can't be written")
    refused(filled("backup", str(tmp_path)), "is a folder", "name a file in it")
    refused(filled("backup", "."), ". is a folder", "name a file in it")
    (tmp_path / "file").write_text("")
    refused(filled("backup", str(tmp_path / "file" / "out.kora")), "can't be written")


def test_a_full_disk_leaves_nothing_behind(kora: Kora, node: Node, tmp_path: Path) -> None:
    fill(kora, *(node.insert(f"r{number}", {"title": "x" * 1_000}) for number in range(400)))
    folder = _folder(tmp_path / "backups")

    def prepare() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    ended = kora.child("backup", str(folder / "out.kora"), prepare=prepare)
    refused(ended, "out.kora", "can't be written", "File too large")
    assert list(folder.iterdir()) == []
    assert kora("backup", str(folder / "out.kora")).code == 0


def test_a_file_of_somebody_else_is_not_taken_for_a_leftover(filled: Kora, tmp_path: Path) -> None:
    """Neither overwritten nor removed."""
    others = [tmp_path / f"out.kora{middle}.partial" for middle in ("", f".{os.getpid()}")]
    for mine in others:
        mine.write_text("mine")
    filled("backup", str(tmp_path / "out.kora"))
    assert [mine.read_text() for mine in others] == ["mine", "mine"]


def test_a_link_that_leads_nowhere_is_there_already(filled: Kora, tmp_path: Path) -> None:
    target = tmp_path / "out.kora"
    target.symlink_to(tmp_path / "elsewhere.kora")
    refused(filled("backup", str(target)), "there already")
    assert target.is_symlink()
    assert sorted(one.name for one in tmp_path.glob("*kora*")) == ["kora.db", "kora.toml", "out.kora"]


def test_a_backup_of_a_log_without_tables(tmp_path: Path) -> None:
    kora = Kora(tmp_path)
    with kora.store():
        pass
    assert kora("backup", str(tmp_path / "out.kora")).code == 0
    assert kora("restore", str(tmp_path / "out.kora")).out == "Restored 0 operations.\n"


# -- restore ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(filled: Kora, tmp_path: Path) -> Path:
    """A backup of `filled`; another record has come since, and one has gone."""
    target = tmp_path / "saved.kora"
    assert filled("backup", str(target)).code == 0
    filled("apply", "insert", "todos", "later", "--data", '{"title": "later"}')
    filled("apply", "delete", "todos", "a")
    return target


def test_restore_puts_a_backup_in_place_of_everything(filled: Kora, saved: Path, tmp_path: Path) -> None:
    assert found(filled) == ["b", "c", "later"]
    ended = filled.child("restore", str(saved))
    assert (ended.code, ended.out) == (0, "Restored 5 operations.\n")
    assert found(filled, "--include-deleted") == ["a", "b", "c", "d"]
    assert found(filled) == ["a", "b", "c"]
    again = tmp_path / "again.kora"
    filled("backup", str(again))
    assert _but_for_time(again) == _but_for_time(saved)


def _but_for_time(file: Path) -> bytes:
    """A backup without its manifest, which says when it was made."""
    content = file.read_bytes()
    return content[content.index(b"version_vector") :]


def test_restore_with_merge_adds_what_is_missing(filled: Kora, saved: Path, tmp_path: Path) -> None:
    ended = filled.child("restore", str(saved), "--merge")
    assert (ended.code, ended.out, ended.err) == (0, "Added 0 operations.\n", "")
    assert found(filled) == ["b", "c", "later"]
    other = Kora(_folder(tmp_path / "other"), SCHEMA)
    other("migrate")
    other("apply", "insert", "todos", "own", "--data", '{"title": "own"}')
    assert other("restore", str(saved), "--merge").out == "Added 5 operations.\n"
    assert found(other) == ["a", "b", "c", "own"]
    assert other("restore", str(saved), "--merge").out == "Added 0 operations.\n"


def test_restore_into_a_folder_without_anything(saved: Path, tmp_path: Path) -> None:
    other = Kora(_folder(tmp_path / "other"))
    assert other("restore", str(saved)).out == "Restored 5 operations.\n"
    other.config.write_text(CONFIG)
    other.use(SCHEMA)
    assert other("migrate").code == 0
    assert found(other) == ["a", "b", "c"]


@pytest.mark.parametrize("merge", [[], ["--merge"]])
def test_restore_verifies_before_it_changes_anything(
    filled: Kora, saved: Path, tmp_path: Path, merge: list[str]
) -> None:
    before = filled.contents()
    content = saved.read_bytes()
    broken = tmp_path / "broken.kora"
    spoilt = {
        "garbage": b"\x01\x02\x03\x04\x05",
        "empty": b"",
        "text": b"this is no backup" * 100,
        "cut short": content[: len(content) * 2 // 3],
        "without its last byte": content[:-1],
        "changed": content.replace(b"gone", b"here"),
        "longer": content + b"\0",
    }
    for name, bytes_ in spoilt.items():
        broken.write_bytes(bytes_)
        said = {"garbage": "is no Kora backup", "text": "is no Kora backup", "cut short": "is truncated"}.get(name, "")
        refused(filled("restore", str(broken), *merge), f"{broken} {said}", ", nothing was changed: ")
        assert filled.contents() == before, name
    refused(filled("restore", str(tmp_path / "nothing.kora"), *merge), "nothing.kora", "can't be read: No such file")
    refused(filled("restore", str(tmp_path), *merge), "can't be read: Is a directory")
    assert filled.contents() == before
    elsewhere = Kora(_folder(tmp_path / "elsewhere"))
    refused(elsewhere("restore", str(broken), *merge), "nothing was changed")
    assert list(elsewhere.folder.glob("*.db*")) == []


# -- beside a daemon --------------------------------------------------------------------------------------------------


async def run(kora: Kora, *arguments: str) -> Ended:
    """A command as a process of its own, while devices are served."""
    return await trio.to_thread.run_sync(lambda: kora.child(*arguments))


def serving(kora: Kora, config: str = "") -> Daemon:
    return Daemon(kora.folder, kora.config.read_text() + config)


async def test_commands_beside_a_daemon_reach_its_devices_live(tmp_path: Path, node: Node) -> None:
    other = Kora(_folder(tmp_path / "other"))
    fill(other, *(node.insert(f"n{number}", {"user": "u"}) for number in range(3)))
    backup = tmp_path / "other.kora"
    assert other("backup", str(backup)).code == 0
    kora = Kora(tmp_path, RELATED)
    with serving(kora) as daemon:
        async with device(daemon.url, "a") as a, device(daemon.url, "old", None) as old:
            await a.takes(a.insert("users", "u", email="x"), a.insert("todos", "t", user="u"))
            assert await old.hears(2)
            inserted = await run(kora, "apply", "insert", "users", "v", "--data", '{"email": "v"}')
            with trio.fail_after(5):
                (heard,) = await a.hears(1)
            assert [heard["id"]] == inserted.json["operations"]
            # The daemon's own judgement knows of it.
            (said,) = await a.send(a.insert("users", "w", email="v"))
            assert said["code"] == "CONSTRAINT_VIOLATION"

            merged = await run(kora, "restore", str(backup), "--merge")
            assert merged.out == "Added 3 operations.\n"
            with trio.fail_after(5):
                assert [one["recordId"] for one in (await a.hears(4))[1:]] == ["n0", "n1", "n2"]

            ended = await run(kora, "apply", "delete", "users", "u")
            assert [one["id"] for one in (await a.hears(9))[4:]] == ended.json["operations"]
            assert [one["recordId"] for one in a.heard[4:]] == ["u", "n0", "n1", "n2", "t"]
            assert [one["id"] for one in await old.hears(11)][2:] == [one["id"] for one in a.heard]
            await a.takes(a.insert("users", "u2", email="x"))
            counted = await run(kora, "count", "users")
            assert counted == Ended(0, "2\n", "")
    assert kora("count", "todos").out == "0\n"


async def test_a_backup_beside_a_daemon_and_the_refusal_to_replace_its_store(tmp_path: Path) -> None:
    kora = Kora(tmp_path, RELATED)
    with serving(kora) as daemon:
        async with device(daemon.url, "a") as a:
            await a.takes(*(a.insert("todos", f"t{number}") for number in range(5)))
            assert (await run(kora, "backup", str(tmp_path / "out.kora"))).code == 0
            await a.takes(a.insert("todos", "later"))
            refused(await run(kora, "restore", str(tmp_path / "out.kora")), "served by another daemon", "stop")
            await a.takes(a.insert("todos", "still there"))
            backfilled = await run(kora, "backfill")
            assert backfilled.code == 0
            await a.takes(a.insert("todos", "and there"))
    assert kora("count", "todos").out == "8\n"
    assert kora("restore", str(tmp_path / "out.kora")).out == "Restored 5 operations.\n"
    assert kora("count", "todos").out == "5\n"
    with serving(kora) as daemon:
        async with device(daemon.url, "a", 8) as a:  # a watermark of the log before
            assert len(a.heard) == 5


# -- the daemon and its parts -----------------------------------------------------------------------------------------

HOOK = """
from kora_daemon import Reject

def judge(operation, context):
    if context.records.count_collection("todos") >= 2:
        return Reject("FULL", "two are enough")
"""


async def test_a_daemon_judges_with_a_module_beside_its_configuration(tmp_path: Path) -> None:
    kora = Kora(tmp_path, RELATED)
    (tmp_path / "my_rules.py").write_text(HOOK)
    with serving(kora, '[validate]\npython = "my_rules:judge"\n') as daemon:
        async with device(daemon.url, "a") as a:
            for number in range(2):
                await a.takes(a.insert("todos", f"t{number}"))
            (said,) = await a.send(a.insert("todos", "t2"))
            assert (said["code"], said["message"], said["retriable"]) == ("FULL", "two are enough", False)
    assert kora("count", "todos").out == "2\n"


@pytest.mark.parametrize(
    ("name", "module", "words"),
    [
        ("no_such_module:judge", "", ["No module named"]),
        ("rules_without:nobody", HOOK, ["nobody"]),
        ("rules_that_fail:judge", "1 / 0", ["ZeroDivisionError"]),
        ("rules_of_a_kind:judge", "judge = 5", ["int", "callable"]),
    ],
)
def test_a_hook_that_can_not_be_loaded_is_a_configuration_error(
    tmp_path: Path, name: str, module: str, words: list[str]
) -> None:
    kora = Kora(tmp_path, RELATED)
    if module:
        (tmp_path / f"{name.split(':', maxsplit=1)[0]}.py").write_text(module)
    kora.config.write_text(f'{CONFIG}\n[validate]\npython = "{name}"\n')
    ended = kora.child("serve")
    refused(Ended(ended.code, ended.out, _said(ended)), "validate.python", *words, code=78)
    for check in (["serve", "--check"], ["config", "check"]):
        refused(kora(*check), "validate.python", *words, code=78)


def _said(ended: Ended) -> str:
    """The sentences on stderr, without the log."""
    return "".join(line for line in ended.err.splitlines(keepends=True) if not line.startswith("{"))


def test_a_daemon_makes_the_tables_and_refuses_a_destructive_change(tmp_path: Path) -> None:
    kora = Kora(tmp_path, schema_text(todos={"n": "number"}))
    with serving(kora) as daemon:
        assert daemon.stop() == 0
    assert kora("migrate").out == DONE
    kora.use(schema_text(2, todos={"n": "string"}))
    before = kora.tables(), kora.contents()
    ended = kora.child("serve")
    refused(Ended(ended.code, ended.out, _said(ended)), "kora migrate --allow-destructive", "todos.n")
    assert (kora.tables(), kora.contents()) == before
    assert kora("migrate", "--allow-destructive").code == 0
    with serving(kora) as daemon:
        assert daemon.stop() == 0


async def test_a_daemon_with_a_new_field_has_its_values_at_once(tmp_path: Path) -> None:
    kora = Kora(tmp_path, schema_text(todos={"n": "number"}))
    with serving(kora) as daemon:
        async with device(daemon.url, "a") as a:
            await a.takes(a.insert("todos", "t", n=1, later="x"), a.insert("notes", "n", text="t"))
        assert daemon.stop() == 0
    kora.use(schema_text(2, todos={"n": "number", "later": "string"}, notes={"text": "string"}))
    with serving(kora, "") as daemon:
        async with connected(daemon.url) as client:
            assert (await client.shake_hands("b"))["rejectReason"].startswith("SCHEMA_MISMATCH")
        assert kora("query", "todos", "--format", "json").json[0]["later"] == "x"
        assert kora("count", "notes", "--where", "text=t").out == "1\n"


def test_a_second_daemon_on_the_same_file_is_refused(tmp_path: Path) -> None:
    kora = Kora(tmp_path, RELATED)
    with serving(kora) as daemon:
        ended = kora.child("serve")
        refused(Ended(ended.code, ended.out, _said(ended)), "kora.db is served by another daemon", "stop")
        daemon.kill()
        with serving(kora) as second:
            assert second.stop() == 0


async def test_a_file_that_does_not_go_with_the_schema_changes_nothing_at_sighup(tmp_path: Path) -> None:
    kora = Kora(tmp_path, schema_text(3, todos={"n": "number"}))
    with serving(kora) as daemon:
        good = kora.config.read_text()
        kora.config.write_text(good.replace("[server]", "[server]\nsupported_schema_versions = [1, 2]"))
        daemon.signal(signal.SIGHUP)
        await eventually(lambda: "daemon.reload_failed" in daemon.logged() or daemon.process.poll() is not None)
        assert daemon.process.poll() is None, daemon.logged()
        async with device(daemon.url, "a", schemaVersion=3) as a:
            await a.takes(a.insert("todos", "t", n=1))
