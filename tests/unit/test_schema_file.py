"""A schema file: what it means, and what is said about a bad one (store.md section 2, docs/schema.md)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from kora_daemon.errors import ConfigError
from kora_daemon.model.schema import Constraint, Field, Schema, SyncRule
from kora_daemon.schema_file import load_schema, read_schema

ROOT = Path(__file__).parents[2]
TASKS = """
version = 1
[collections.projects.fields]
name = "string"
[collections.tasks.fields]
title = "string"
status = ["open", "done"]
projectId = "string?"
"""


def load(folder: Path, text: str, name: str = "schema.toml") -> Schema:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return load_schema(file)


def problems(folder: Path, text: str, name: str = "schema.toml") -> list[str]:
    """What is wrong with a file of this text, without the folder in its name."""
    try:
        load(folder, text, name)
    except ConfigError as error:
        return [problem.replace(f"{folder}/", "") for problem in error.problems]
    return []


def fields(schema: Schema, collection: str = "tasks") -> list[Field]:
    return list(schema.collections[collection].fields.values())


def test_the_short_forms_mean_what_the_long_ones_mean(tmp_path: Path) -> None:
    short = load(
        tmp_path,
        """
        version = 1
        [collections.projects.fields]
        name = "string"
        [collections.tasks.fields]
        title = "string"
        notes = "richtext?"
        status = ["open", "done"]
        priority = { values = ["low", "high"], default = "low", merge = "lww" }
        tags = "string[]"
        marks = { items = "number", default = [] }
        place = { fields = { street = "string", city = "string?" } }
        projectId = "string?"
        [relations]
        taskOfProject = { from = "tasks.projectId", to = "projects", onDelete = "set-null" }
        [sync]
        tasks = ["projectId"]
        projects = { where = { name = true } }
        """,
    )
    long = load(
        tmp_path,
        """
        version = 1
        [collections.projects]
        scope = ["name"]
        [collections.projects.fields]
        name = { kind = "string", required = true, auto = false }
        [collections.tasks]
        scope = ["projectId"]
        [collections.tasks.fields.title]
        kind = "string"
        [collections.tasks.fields.notes]
        kind = "richtext"
        required = false
        [collections.tasks.fields.status]
        kind = "enum"
        enumValues = ["open", "done"]
        [collections.tasks.fields.priority]
        kind = "enum"
        enumValues = ["low", "high"]
        defaultValue = "low"
        mergeStrategy = "lww"
        [collections.tasks.fields.tags]
        kind = "array"
        itemKind = "string"
        [collections.tasks.fields.marks]
        kind = "array"
        itemKind = "number"
        defaultValue = []
        [collections.tasks.fields.place]
        kind = "object"
        nestedFields.street = { kind = "string" }
        nestedFields.city = { kind = "string", required = false }
        [collections.tasks.fields.projectId]
        kind = "string"
        [relations.taskOfProject]
        from = "tasks"
        field = "projectId"
        to = "projects"
        type = "many-to-one"
        onDelete = "set-null"
        [sync.tasks.where]
        projectId = "projectId"
        [sync.projects.where]
        name = "name"
        """,
    )
    assert short == long
    assert fields(short) == fields(long)
    assert fields(short) == [
        Field(name="title", kind="string"),
        Field(name="notes", kind="richtext"),
        Field(name="status", kind="enum", enum_values=("open", "done")),
        Field(name="priority", kind="enum", enum_values=("low", "high"), default="low"),
        Field(name="tags", kind="array"),
        Field(name="marks", kind="array", default=[]),
        Field(name="place", kind="object"),
        Field(name="projectId", kind="string"),
    ]


def test_what_nobody_wrote_is_empty(tmp_path: Path) -> None:
    schema = load(tmp_path, TASKS)
    tasks = schema.collections["tasks"]
    assert (tasks.indexes, tasks.constraints, tasks.scope) == ((), (), ())
    assert (schema.relations, schema.relations_to, schema.sync) == ({}, {}, {})


def test_fields_of_a_sync_rule_follow_the_scope_of_their_collection(tmp_path: Path) -> None:
    rule = '[sync.tasks.where]\nprojectId = "project"\ntitle = true\n[collections.tasks]\nscope = ["status", "title"]'
    schema = load(tmp_path, TASKS + rule)
    assert schema.sync == {"tasks": SyncRule(collection="tasks", where={"projectId": "project", "title": "title"})}
    assert schema.collections["tasks"].scope == ("status", "title", "projectId")
    assert schema.collections["projects"].scope == ()


def test_a_name_or_a_value_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    text = TASKS.replace('"open", "done"', '"open", "done", "open"')
    twice = '[collections.tasks]\nindexes = ["title", "status", "title"]\nscope = ["title", "title"]'
    tasks = load(tmp_path, text + twice).collections["tasks"]
    assert tasks.fields["status"].enum_values == ("open", "done")
    assert (tasks.indexes, tasks.scope) == (("title", "status"), ("title",))


def test_names_that_mean_something_to_a_host_language_are_names_like_others() -> None:
    odd = ["constructor", "toString", "hasOwnProperty", "class", "keys", "get"]
    document = {
        "version": 1,
        "collections": {name: {"fields": dict.fromkeys(odd, "string"), "scope": odd} for name in odd},
        "relations": {"__proto__": {"from": "keys.get", "to": "constructor", "onDelete": "restrict"}},
    }
    schema = read_schema(document)
    assert list(schema.collections) == odd
    assert list(schema.collections["get"].fields) == odd
    assert [one.name for one in schema.relations_to["constructor"]] == ["__proto__"]

    for name in ("__proto__", "__class__"):
        with pytest.raises(ConfigError):
            read_schema({"version": 1, "collections": {name: {"fields": {"a": "string"}}}})


def test_a_constraint_keeps_what_the_server_judges_by(tmp_path: Path) -> None:
    rules = """
    [[collections.tasks.constraints]]
    type = "capacity"
    fields = ["projectId"]
    where = { status = "open", id = "x" }
    onConflict = "priority-field"
    priorityField = "title"
    [[collections.tasks.constraints]]
    type = "referential"
    fields = ["projectId"]
    where = { collection = "projects" }
    onConflict = "custom"
    """
    capacity, referential = load(tmp_path, TASKS + rules).collections["tasks"].constraints
    assert capacity == Constraint(type="capacity", fields=("projectId",), where={"status": "open", "id": "x"})
    assert referential.refers_to == "projects"


def test_defaults_of_rich_text_are_taken_as_json_prints_them() -> None:
    """`new Uint8Array()` prints as `{}`."""
    body = {"kind": "richtext", "defaultValue": {}}
    assert fields(read_schema({"version": 1, "collections": {"tasks": {"fields": {"body": body}}}}))[0].default == {}


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        """
        version = "2"
        colections = 1
        [collections.operations.fields]
        Title = "strng"
        [collections.tasks]
        indexes = ["titel", 5]
        constraints = [{ type = "uniqe", fields = [] }]
        scope = "projectId"
        [collections.tasks.fields]
        title = "string"
        TITLE = "string"
        status = { kind = "enum" }
        amount = { kind = "number", default = "5" }
        [relations]
        r = { from = "task.projectId", to = "projects", onDelete = "setNull" }
        [migrations.3]
        steps = []
        [sync]
        project = ["name"]
        """,
    )
    assert found == [
        "colections (schema.toml): there is no such key; did you mean collections?",
        'version (schema.toml): found "2", expected a whole number from 1 up',
        "collections.operations (schema.toml): the name operations belongs to a table of the log; choose another",
        'collections.operations.fields.Title (schema.toml): found "Title", expected a name of a to z, A to Z, 0 to 9 '
        "and _ that begins with a small letter",
        'collections.operations.fields.Title (schema.toml): found "strng", expected a kind; did you mean string?',
        'collections.tasks.fields.TITLE (schema.toml): found "TITLE", expected a name of a to z, A to Z, 0 to 9 and _ '
        "that begins with a small letter",
        "collections.tasks.fields.status.enumValues (schema.toml): is missing, expected a list of one or more texts",
        'collections.tasks.fields.amount.default (schema.toml): found "5", expected a number',
        "collections.tasks.fields.TITLE (schema.toml): differs from title in case only, which SQLite takes for the "
        "same; rename one",
        'collections.tasks.indexes[0] (schema.toml): found "titel", expected a field of tasks; did you mean title?',
        "collections.tasks.indexes[1] (schema.toml): found 5, expected a field of tasks: one of title, TITLE, status, "
        "amount",
        "collections.tasks.constraints[0].fields (schema.toml): found an empty list, expected a list of one or more "
        "names of fields",
        'collections.tasks.constraints[0].type (schema.toml): found "uniqe", expected a type of constraint; did you '
        "mean unique?",
        'collections.tasks.scope (schema.toml): found "projectId", expected a list of names of fields',
        'relations.r.from (schema.toml): found "task", expected a collection; did you mean tasks?',
        'relations.r.to (schema.toml): found "projects", expected a collection: one of operations, tasks',
        'relations.r.onDelete (schema.toml): found "setNull", expected an action; did you mean set-null?',
        "migrations.3.steps (schema.toml): found an empty list, expected a list of one or more steps",
        "sync.project (schema.toml): there is no such collection; expected one of operations, tasks",
    ]


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        (
            "[collections.tasks.fields.a]",
            "collections.tasks.fields.a.kind (schema.toml): is missing, expected a kind: ",
        ),
        (
            "[collections.tasks]\nfields.a = 5",
            'collections.tasks.fields.a (schema.toml): found 5, expected a field, such as "string"',
        ),
        (
            '[collections.tasks]\nfields.a = "enum"',
            "collections.tasks.fields.a (schema.toml): an enum needs its values, written",
        ),
        (
            "[collections.tasks]\nfields.a = []",
            "collections.tasks.fields.a (schema.toml): found an empty list, expected a list of one or more texts",
        ),
        (
            '[collections.tasks]\nfields.a = ["x", 1]',
            "collections.tasks.fields.a[1] (schema.toml): found 1, expected a text",
        ),
        (
            '[collections.tasks]\nfields.a = { kind = "string", values = ["x"] }',
            "collections.tasks.fields.a.values (schema.toml): is for the kind enum only, this is string",
        ),
        (
            '[collections.tasks]\nfields.a = { kind = "string", default = "x", defaultValue = "x" }',
            "collections.tasks.fields.a.default (schema.toml): is short for defaultValue, which is there too",
        ),
        (
            '[collections.tasks]\nfields.a = { kind = "string", requierd = true }',
            "collections.tasks.fields.a.requierd (schema.toml): there is no such key; did you mean required?",
        ),
        (
            '[collections.tasks]\nfields.a = { kind = "string", required = "no" }',
            'collections.tasks.fields.a.required (schema.toml): found "no", expected true or false',
        ),
        (
            '[collections.tasks]\nfields.a = { kind = "timestamp", default = 2024-01-01 }',
            "collections.tasks.fields.a.default (schema.toml): found 2024-01-01, "
            "expected a value that can be written in JSON",
        ),
        (
            '[collections.tasks]\nfields.a = { kind = "number", default = nan }',
            "collections.tasks.fields.a.default (schema.toml): found nan, expected a value that can be written in JSON",
        ),
        (
            '[collections.tasks]\nfields.a = { values = ["x", "y"], default = "z" }',
            'collections.tasks.fields.a.default (schema.toml): found "z", expected one of x, y',
        ),
        (
            '[collections.tasks]\nfields.a = { values = ["x"], transitions = { x = ["xx"] } }',
            'collections.tasks.fields.a.transitions.x[0] (schema.toml): found "xx", expected a state: one of x',
        ),
        (
            '[collections.tasks]\nfields.a = { fields = { b = "strin" } }',
            'collections.tasks.fields.a.fields.b (schema.toml): found "strin", expected a kind; did you mean string?',
        ),
        (
            '[collections.tasks]\nfields.a = { items = "text" }',
            'collections.tasks.fields.a.items (schema.toml): found "text", expected a kind',
        ),
        (
            '[collections.tasks]\nfields.iD = "string"',
            "collections.tasks.fields.iD (schema.toml): the name id is reserved; choose another",
        ),
        (
            '[collections.Tasks]\nfields.a = "string"\n[collections.tasks]\nfields.a = "string"',
            "collections.tasks (schema.toml): differs from Tasks in case only, which SQLite takes for the same",
        ),
        (
            '[collections.sqlite_x]\nfields.a = "string"',
            "collections.sqlite_x (schema.toml): SQLite keeps names that begin with sqlite_ to itself",
        ),
        ("[collections]\ntasks = 5", "collections.tasks (schema.toml): found 5, expected a collection with its fields"),
        ("[collections.tasks]", "collections.tasks.fields (schema.toml): is missing, expected a table of fields"),
    ],
)
def test_a_bad_collection_is_told_its_fix(tmp_path: Path, toml: str, problem: str) -> None:
    (found,) = problems(tmp_path, f"version = 1\n{toml}")
    assert found.startswith(problem)


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        (
            '[collections.tasks]\nconstraints = [{ type = "unique", fields = ["title"], where = { statsu = "open" } }]',
            "collections.tasks.constraints[0].where.statsu (schema.toml): there is no such field; did you mean status?",
        ),
        (
            '[[collections.tasks.constraints]]\ntype = "referential"\nfields = ["title"]\nwhere.collection = "project"',
            'collections.tasks.constraints[0].where.collection (schema.toml): found "project", expected a collection; '
            "did you mean projects?",
        ),
        (
            '[[collections.tasks.constraints]]\ntype = "unique"\nfields = ["title"]\npriorityField = "titel"',
            'collections.tasks.constraints[0].priorityField (schema.toml): found "titel", expected a field of tasks; '
            "did you mean title?",
        ),
        (
            "[collections.tasks]\nconstraints = [5]",
            "collections.tasks.constraints[0] (schema.toml): found 5, expected a rule, such as",
        ),
        (
            '[collections.tasks.stateMachine]\nfield = "title"\ntransitions = {}\nonInvalidTransition = "reject"',
            'collections.tasks.stateMachine.field (schema.toml): found "title", expected an enum field',
        ),
        (
            '[relations]\nr = { from = "tasks", to = "projects", onDelete = "cascade" }',
            "relations.r.field (schema.toml): is missing, expected a field of tasks: one of title, status, projectId",
        ),
        (
            '[relations]\nr = { from = "tasks.project", to = "projects", onDelete = "cascade" }',
            'relations.r.from (schema.toml): found "project", expected a field of tasks; did you mean projectId?',
        ),
        (
            '[relations]\n"" = { from = "tasks.title", to = "projects", onDelete = "cascade" }',
            'relations."" (schema.toml): found "", expected a name of the relation in whole characters',
        ),
        (
            '[relations]\nr = { from = "tasks.title", to = "projects" }',
            "relations.r.onDelete (schema.toml): is missing, expected an action: one of cascade, set-null, restrict, ",
        ),
        ('relations = ["r"]', "relations (schema.toml): found a list, expected a table of relations"),
        ("[sync]\ntasks = []", "sync.tasks (schema.toml): found an empty list, expected a rule, such as"),
        (
            "[sync]\ntasks = { title = true }",
            'sync.tasks (schema.toml): found a table, expected a rule, such as ["userId"] or',
        ),
        (
            '[migrations.2]\nsteps = [{ type = "addIndex" }]',
            "migrations.2 (schema.toml): leads beyond the schema's version, which is 1",
        ),
        (
            '[migrations.next]\nsteps = [{ type = "addIndex" }]',
            'migrations.next (schema.toml): found "next", expected the version it leads to, a whole number from 2 up',
        ),
    ],
)
def test_a_bad_rule_is_told_its_fix(tmp_path: Path, toml: str, problem: str) -> None:
    above, heading, below = TASKS.partition("[collections.projects")
    text = above + toml + "\n" + heading + below if not toml.startswith("[") else TASKS + toml
    (found,) = problems(tmp_path, text)
    assert found.startswith(problem)


def test_a_broken_field_is_still_a_field_to_everything_that_names_it(tmp_path: Path) -> None:
    text = TASKS.replace('title = "string"', 'title = "text"') + (
        '[collections.tasks]\nindexes = ["title"]\n[sync]\ntasks = ["title"]\n'
        '[relations]\nr = { from = "tasks.title", to = "projects", onDelete = "cascade" }'
    )
    (found,) = problems(tmp_path, text)
    assert found.startswith("collections.tasks.fields.title (schema.toml): ")


def test_names_that_are_none_are_quoted(tmp_path: Path) -> None:
    document = {"version": 1, "collections": {"a\nb": {"fields": {"x": "string"}}}}
    (found,) = problems(tmp_path, json.dumps(document), "schema.json")
    assert found.startswith('collections."a\\nb" (schema.json): found "a\\nb", expected a name of')


def test_half_characters_are_refused_and_can_be_printed(tmp_path: Path) -> None:
    half = "\ud800"
    document = {
        "version": 1,
        "collections": {
            half: {"fields": {half: "string"}},
            "tasks": {"fields": {"a": [half], "b": {"kind": "json", "defaultValue": {half: half}}}, "indexes": [half]},
        },
        "relations": {half: {"from": f"{half}.a", "to": half, "onDelete": half}},
    }
    found = problems(tmp_path, json.dumps(document), "schema.json")
    assert len(found) >= 7
    "\n".join(found).encode()


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("schema.json", b"{", "schema.json: is not JSON: Expecting property name enclosed in double quotes: line 1"),
        ("schema.json", b'{"version": NaN}', "schema.json: is not JSON: NaN is no number of JSON"),
        ("schema.json", b"[" * 100_000, "schema.json: is nested too deeply"),
        ("schema.json", b"[]", "schema.json: found an empty list, expected a schema: version, collections"),
        ("schema.toml", b"version = ", "schema.toml: is not TOML: Invalid value (at end of document)"),
        ("schema.toml", b"a = " + b"[" * 100_000, "schema.toml: is nested too deeply"),
        ("schema.toml", b"", "version (schema.toml): is missing, expected a whole number from 1 up"),
        ("schema.toml", b"\xff", "schema.toml: byte 0 is not UTF-8, expected a TOML file in UTF-8"),
        ("schema.ts", b"", "schema.ts: expected a name that ends in .json or .toml; docs/schema.md tells"),
        ("folder.json", None, "folder.json: the file can't be read: "),
    ],
)
def test_a_file_that_is_no_schema_is_told_apart(tmp_path: Path, name: str, content: bytes | None, problem: str) -> None:
    file = tmp_path / name
    file.mkdir() if content is None else file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_schema(file)
    assert caught.value.problems[0].replace(f"{tmp_path}/", "").startswith(problem)


def test_fields_within_fields_without_end_are_nested_too_deeply() -> None:
    field: dict[str, Any] = {"kind": "string"}
    for _ in range(10_000):
        field = {"kind": "object", "nestedFields": {"inner": field}}
    with pytest.raises(ConfigError, match="schema: is nested too deeply"):
        read_schema({"version": 1, "collections": {"tasks": {"fields": {"a": field}}}})


def test_a_byte_order_mark_is_no_trouble(tmp_path: Path) -> None:
    assert load(tmp_path, "\ufeff" + TASKS).version == 1


def test_json_and_toml_say_the_same(tmp_path: Path) -> None:
    document = json.loads((ROOT / "config" / "schema.json").read_text())
    from_toml = load(tmp_path, tomli_w.dumps(_without_nulls(document)))
    assert from_toml == load_schema(ROOT / "config" / "schema.json")
    assert list(from_toml.collections) == ["todos", "forms", "responses"]


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(one) for name, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value


def test_the_example_of_the_schema_page_is_a_schema(tmp_path: Path) -> None:
    example = re.search(r"```toml\n(.*?)```", (ROOT / "docs" / "schema.md").read_text(), re.DOTALL)
    assert example
    schema = load(tmp_path, example[1])
    assert list(schema.collections["tasks"].fields) == [
        "title", "notes", "status", "priority", "estimate", "tags", "place", "projectId", "ownerId"
    ]  # fmt: skip
    assert schema.relations["taskOfProject"].on_delete == "cascade"
