"""`kora config check`: who may read and write what, and what is doubtful about it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Ended, Kora, schema_text
from tests.support.tokens import SECRET

SCHEMA = schema_text(
    todos={"userId": "string", "tags": {"kind": "array", "itemKind": "string"}},
    forms={"status": {"kind": "enum", "enumValues": ["draft", "published"]}, "ownerId": "string", "size": "number"},
    secrets={"key": "string"},
)
HEAD = 'schema = "schema.json"\n'
KORA = f'{HEAD}[auth]\nkind = "kora"\n[auth.kora]\nsecret = "{SECRET}"\ndatabase = ""\n'
MIXED = f"""
{HEAD}
[auth]
kind = "mixed"
primary = "kora"
on_invalid_token = "anonymous"
[auth.kora]
secret = "{SECRET}"
database = ""
[auth.scopes]
todos = {{ userId = "{{sub}}" }}
forms = {{ ownerId = "{{user.email?}}", __readonly = true }}
[[auth.grants]]
when = {{ role = "admin" }}
scopes = {{ "*" = {{}} }}
[[auth.grants]]
when = {{ role = ["viewer", "guest"], "/a~1b" = 3 }}
scopes = {{ todos = {{ userId = "{{sub}}" }} }}
readonly = true
[auth.anonymous.scopes]
forms = {{ status = "published" }}
"""


def check(folder: Path, toml: str, schema: str = SCHEMA, *options: str) -> Ended:
    """What is said of a file that is fine."""
    ended = Kora(folder, schema, toml)("config", "check", *options)
    assert ended.code == 0, ended.err
    return ended


def said(folder: Path, toml: str, schema: str = SCHEMA) -> str:
    """The collections and what is below them."""
    fine, _, rest = check(folder, toml, schema).out.partition("\n\nWho may read and write what")
    assert fine == f"{folder}/kora.toml is fine."
    return rest.partition("\n\n")[2]


def doubts(folder: Path, toml: str, schema: str = SCHEMA) -> list[str]:
    return [one.removeprefix("kora: doubtful: ") for one in check(folder, toml, schema).err.splitlines()]


def test_every_collection_says_who_may_do_what(tmp_path: Path) -> None:
    assert (
        said(tmp_path, MIXED)
        == """\
todos
  users with role = "admin": read and write all
  users with role = "viewer" or "guest" and /a~1b = 3: read where userId = "{sub}"
  other users: read and write where userId = "{sub}"

forms
  users with role = "admin": read and write all
  other users: read where ownerId = "{user.email?}"
  visitors and whoever shows a bad token: read and write where status = "published"

secrets
  users with role = "admin": read and write all
"""
    )
    assert doubts(tmp_path, MIXED) == []
    served = Kora(tmp_path, SCHEMA, MIXED)("serve", "--check")
    assert (served.code, served.out) == (0, check(tmp_path, MIXED).out)


def test_the_same_as_json(tmp_path: Path) -> None:
    found = check(tmp_path, MIXED.replace('"published"', '"publishd"'), SCHEMA, "--json")
    assert found.err == ""
    assert found.json["collections"]["forms"] == [
        {"who": 'users with role = "admin"', "source": "auth.grants[0]", "may": "read-write", "where": {}},
        {"who": "other users", "source": "auth.scopes", "may": "read", "where": {"ownerId": "{user.email?}"}},
        {
            "who": "visitors and whoever shows a bad token",
            "source": "auth.anonymous.scopes",
            "may": "read-write",
            "where": {"status": "publishd"},
        },
    ]
    assert (list(found.json["collections"]), found.json["others"]) == (["todos", "forms", "secrets"], [])
    (doubt,) = found.json["doubts"]
    assert doubt == (
        'auth.anonymous.scopes.forms.status: no record has "publishd", the field is one of draft, published'
    )


@pytest.mark.parametrize("with_schema", [True, False])
def test_without_auth_everybody_may_do_everything(tmp_path: Path, with_schema: bool) -> None:
    everybody = "  everybody: read and write all\n"
    if with_schema:
        names = ["todos", "forms", "secrets", "what is not in the schema"]
        assert said(tmp_path, HEAD) == "\n".join(f"{name}\n{everybody}" for name in names)
    else:
        assert said(tmp_path, "") == f"every collection\n{everybody}"


STATIC = """
[auth]
kind = "token"
source = "static"
[[auth.tokens]]
token = "s3cret-one"
user = "reporting"
scopes = { invoices = { tenant = "t1", paid = true } }
"""
ADMIN = '[[auth.tokens]]\ntoken = "s3cret-two"\nuser = "admin"\nunscoped = true\n'


def test_without_a_schema_the_collections_are_those_that_scopes_name(tmp_path: Path) -> None:
    reporting = '  the token of reporting: read and write where tenant = "t1" and paid = true\n'
    assert said(tmp_path, STATIC) == f"invoices\n{reporting}\nevery other collection\n  nobody\n"
    admin = "  the token of admin: read and write all\n"
    assert said(tmp_path, STATIC + ADMIN) == f"invoices\n{reporting}{admin}\nevery other collection\n{admin}"


HOOK = f'{HEAD}[auth]\nkind = "token"\nsource = "http"\nurl = "http://ali:s3cret@127.0.0.1/"\n'
CODE = "  users: as your code says (auth.url)\n"
NAMELESS = "users for whom your code names no scopes"


@pytest.mark.parametrize(
    ("toml", "secrets", "doubtful"),
    [
        (HOOK, f"{CODE}  {NAMELESS}: read and write all\n", True),
        (f"{HOOK}shared_data = true\n", f"{CODE}  {NAMELESS}: read and write all\n", False),
        (f"{HOOK}require_scopes = true\n", CODE, False),
        (f"{HOOK}[auth.scopes]\nsecrets = {{}}\n", f"{CODE}  {NAMELESS}: read and write all\n", False),
        (
            f'{HOOK}[[auth.grants]]\nwhen = {{ "metadata.role" = "ops" }}\nscopes = {{ secrets = {{}} }}\n',
            f'{CODE}  {NAMELESS} with metadata.role = "ops": read and write all\n',
            False,
        ),
    ],
)
def test_what_code_decides_is_said_to_be_so(tmp_path: Path, toml: str, secrets: str, doubtful: bool) -> None:
    _, _, after = said(tmp_path, toml).partition("secrets\n")
    assert after.partition("\nwhat is not in the schema\n")[0] == secrets
    found = doubts(tmp_path, toml)
    assert [one.partition(":")[0] for one in found] == (["auth.url"] if doubtful else [])


def test_code_that_names_scopes_takes_the_place_of_tables(tmp_path: Path) -> None:
    (tmp_path / "check_app.py").write_text("def scopes(user, claims):\n    return {}\n")
    toml = KORA.replace("[auth]", '[auth]\npython_scopes = "check_app:scopes"')
    assert said(tmp_path, toml).startswith(
        f"todos\n  users: as your code says (auth.python_scopes)\n  {NAMELESS}: read and write all\n"
    )
    used, unscoped = doubts(tmp_path, f"{toml}[auth.scopes]\ntodos = {{}}\n")
    assert used == "auth.scopes: is not used, auth.python_scopes takes its place"
    assert unscoped.startswith("auth.python_scopes: whoever it names no scopes for may read and write everything")


def test_the_rules_of_the_schema_are_said_with_their_claims(tmp_path: Path) -> None:
    document = json.loads(SCHEMA)
    document["sync"] = {"todos": {"where": {"userId": True}}, "forms": {"where": {"ownerId": "owner"}}}
    toml = KORA.replace("[auth]", "[auth]\nscopes_from_schema = true")
    assert (
        said(tmp_path, toml, json.dumps(document))
        == """\
todos
  users: read and write where userId = "{userId?}"

forms
  users: read and write where ownerId = "{owner?}"

secrets
  nobody
"""
    )
    (hidden,) = doubts(tmp_path, toml, json.dumps(document))
    assert hidden.startswith("auth: secrets is hidden from everybody who has scopes")
    document["sync"]["todos"] = {"where": {"tags": True}}
    assert doubts(tmp_path, toml, json.dumps(document))[0].startswith("auth.scopes_from_schema.todos.tags: an array")


SCOPED = json.dumps(
    json.loads(SCHEMA) | {"sync": {"todos": {"where": {"userId": True}}, "secrets": {"where": {"key": True}}}}
)
NOT_HELD = "devices that mean well keep to it, others need not"


@pytest.mark.parametrize(
    ("toml", "schema", "expected"),
    [
        (
            f'{KORA}[auth.scopes]\ntodos = {{ tags = "{{sub}}" }}\nforms = {{}}\nsecrets = {{}}\n',
            SCHEMA,
            ["auth.scopes.todos.tags: an array equals nothing, so it hides everything"],
        ),
        (
            f'{KORA}[auth.scopes]\n"*" = {{ id = "{{sub}}" }}\n',
            SCHEMA,
            [
                f"auth.scopes.{name}.id: no insert carries it, so nobody can add records by it"
                for name in ("todos", "forms", "secrets")
            ],
        ),
        (
            f"{KORA}[auth.scopes]\n'*' = {{}}\nforms = {{ size = '5', __readonly = false }}\n",
            SCHEMA,
            [
                "auth.scopes.forms.__readonly: false says nothing; leave it out",
                'auth.scopes.forms.size: no record has "5", the field is a number',
            ],
        ),
        (
            f'{KORA}[auth.scopes]\ntodos = {{ userId = "{{sub}}" }}\nforms = {{ size = "{{n}}" }}\n',
            SCHEMA,
            ["auth: secrets is hidden from everybody who has scopes, since no table of theirs names it"],
        ),
        (
            f"{KORA}[auth.scopes]\n'*' = {{}}\n[[auth.grants]]\nwhen = {{}}\nscopes = {{ '*' = {{}} }}\n",
            SCHEMA,
            ["auth.grants[0].when: is empty, so it matches everybody, and nothing below it counts"],
        ),
        (
            HEAD
            + STATIC.replace("invoices", "todos").replace("tenant", "userId").replace(", paid = true", "")
            + ADMIN
            + "[auth.scopes]\n'*' = {}\n",
            SCHEMA,
            [
                "auth.scopes: is not used, each of auth.tokens says for itself",
                *(
                    f"auth: {name} is hidden from everybody who has scopes, since no table of theirs names it"
                    for name in ("forms", "secrets")
                ),
            ],
        ),
        (
            HEAD
            + STATIC.replace('invoices = { tenant = "t1", paid = true }', '"*" = {}, todos = { userId = "{sub}" }'),
            SCHEMA,
            ['auth.tokens[0].todos.userId: "{sub}" is taken as it is, there are no claims to fill in'],
        ),
        (
            f'{KORA}[auth.scopes]\n"*" = {{}}\ntodos = {{ userId = "{{sub}}" }}\n',
            SCOPED,
            [f"auth: secrets has the scope key in the schema, and nobody is held to it; {NOT_HELD}"],
        ),
        (
            f'{KORA}[auth.scopes]\n"*" = {{}}\ntodos = {{ userId = "{{sub}}" }}\n'
            '[[auth.grants]]\nwhen = { a = 1 }\nscopes = { "*" = {}, secrets = { key = "{a}" } }\n',
            SCOPED,
            [],
        ),
        (
            f"{KORA}[auth.scopes]\nforms = {{}}\n[[auth.grants]]\nwhen = {{ a = 1 }}\nscopes = {{ '*' = {{}} }}\n",
            SCOPED,
            [],
        ),
        (HEAD, SCOPED, [f"auth: nobody is held to the scope of the schema (todos, secrets); {NOT_HELD}"]),
        (
            KORA.replace("[auth]", "[auth]\nshared_data = true"),
            SCOPED,
            [f"auth: nobody is held to the scope of the schema (todos, secrets); {NOT_HELD}"],
        ),
        (f"{HOOK}require_scopes = true\n", SCOPED, []),
    ],
)
def test_what_is_legal_and_hardly_meant_is_said_on_stderr(
    tmp_path: Path, toml: str, schema: str, expected: list[str]
) -> None:
    assert doubts(tmp_path, toml, schema) == expected


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_no_secret_is_told(tmp_path: Path, options: list[str]) -> None:
    hashed = '[[auth.tokens]]\nsha256 = "' + "5ec4e7" * 10 + '5ec4"\nuser = "x"\nunscoped = true\n'
    headers = 'headers = { Authorization = "Bearer s3cret" }\n'
    for toml in (
        MIXED,
        HEAD
        + STATIC.replace("invoices", "todos").replace("tenant", "userId").replace(", paid = true", "")
        + ADMIN
        + hashed,
        HOOK + headers,
    ):
        ended = check(tmp_path, toml, SCHEMA, *options)
        for secret in (SECRET, "s3cret", "5ec4e7"):
            assert secret not in ended.out + ended.err


def test_a_file_with_problems_says_these_alone(tmp_path: Path) -> None:
    toml = f"{KORA}[auth.scopes]\ntodo = {{}}\n"
    for options in ([], ["--json"]):
        ended: Any = Kora(tmp_path, SCHEMA, toml)("config", "check", *options)
        assert (ended.code, ended.out) == (78, "")
        assert ended.err.startswith(f"kora: auth.scopes ({tmp_path}/kora.toml): has 'todo'")


BROKEN = KORA.replace(f'secret = "{SECRET}"', 'secret_file = "secrets.txt"').replace(
    "[auth.kora]",
    """[auth.scopes]
todos = {}
[[auth.grants]]
when = {}
scopes = { forms = { nope = 1 } }
[auth.kora]""",
)


def test_what_the_file_names_is_told_with_the_place_it_is_named_in(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "secrets.txt").write_text("short")
    ended = Kora(tmp_path, SCHEMA, BROKEN.replace("nope", "size"))("config", "check")
    assert (ended.code, ended.err.partition("): ")[0]) == (78, f"kora: auth.kora.secret_file ({tmp_path}/kora.toml")
    monkeypatch.setenv("KORA_AUTH__SCOPES", "{ todo = {} }")
    ended = Kora(tmp_path, SCHEMA, BROKEN)("serve")
    assert [line.partition(": has")[0] for line in ended.err.splitlines()] == [
        "kora: auth.scopes (KORA_AUTH__SCOPES)",
        f"kora: auth.grants[0].scopes.forms ({tmp_path}/kora.toml)",
    ]


@pytest.mark.parametrize("command", [["serve"], ["serve", "--check"], ["config", "check"]])
def test_what_the_file_names_is_looked_at_even_if_the_file_has_problems(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "secrets.txt").write_text("short")
    toml = f"{BROKEN}[server]\nport = 'x'\n"
    lines = Kora(tmp_path, SCHEMA, toml)(*command).err.splitlines()
    assert ["server.port" in lines[0], "auth.grants[0]" in lines[1], len(lines)] == [True, True, 2]
    lines = Kora(tmp_path, "{", toml)(*command).err.splitlines()
    assert ["server.port" in lines[0], "schema.json" in lines[1], len(lines)] == [True, True, 2]
    lines = Kora(tmp_path, "{", f"{toml}[validate]\n")(*command).err.splitlines()
    assert ["validate" in lines[1], len(lines)] == [True, 2]


HOOKS = """
import functools
def on_one(request): pass
async def on_three(request, data, database: str): pass
def on_two(request, data, *, retries=3): pass
def on_any(*arguments): pass
class On:
    def method(self, request): pass
    def __call__(self, request, data): pass
given = functools.partial(on_three, database="")
@functools.wraps(on_three)
def wrapped(*arguments): pass
on = On()
"""


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ('[[routes]]\npath = "/api"\npython = "{0}:on_one"', "routes[0].python: '{0}:on_one' takes (request), {1}"),
        (
            '[[routes]]\npath = "/api"\npython = "{0}:on_three"',
            "routes[0].python: '{0}:on_three' takes (request, data, database: str), {1}",
        ),
        (
            '[[routes]]\npath = "/api"\npython = "{0}:on.method"',
            "routes[0].python: '{0}:on.method' takes (request), {1}",
        ),
        (
            '[validate]\npython = "{0}:on_one"',
            "validate.python: '{0}:on_one' takes (request), expected (operation, context)",
        ),
        (
            '[auth]\nkind = "token"\nsource = "python"\npython = "{0}:on_two"',
            "auth.python: '{0}:on_two' takes (request, data, *, retries=3), expected (token)",
        ),
        *(
            (f'[[routes]]\npath = "/api"\npython = "{{0}}:{name}"', None)
            for name in ("on_two", "on_any", "on", "given", "wrapped")
        ),
    ],
)
def test_code_that_can_not_be_called_as_it_will_be_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, problem: str | None
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    module = f"hooks_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text(HOOKS)
    kora = Kora(tmp_path, SCHEMA, HEAD + table.format(module))
    for command in (["config", "check"], ["serve", "--check"]):
        ended = kora(*command)
        if problem is None:
            assert ended.code == 0, ended.err
        else:
            key, _, wrong = problem.format(module, "expected (request, data)").partition(": ")
            assert (ended.code, ended.err) == (78, f"kora: {key} ({tmp_path}/kora.toml): {wrong}\n")
