"""`--json`: data on stdout and nothing else there, whatever there is to say goes to stderr."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from kora_daemon.version import VERSION
from koractl.app import app, main
from tests.support.cli import CONFIG, Kora, schema_text
from tests.support.records import Node, apply
from tests.support.tokens import SECRET

SCHEMA = schema_text(todos={"title": "string", "n": "number"})
GROWN = schema_text(2, todos={"title": "string", "n": "number", "done": "boolean"}, lists={"name": "string"})
RETYPED = schema_text(2, todos={"title": "string", "n": "string"})
TALKS_TO_PEOPLE = {"init", "serve", "config schema", "token issue", "apply", "man"}
"""Commands without `--json`: they print a file, a token, an address, or JSON in any case."""


def commands(group: TyperGroup, name: str = "") -> Iterator[tuple[str, Any]]:
    for each, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{name}{each} ")
        else:
            yield f"{name}{each}", command


def test_every_other_command_can_speak_json() -> None:
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    without = {name for name, one in commands(root) if not any("--json" in param.opts for param in one.params)}
    assert without == TALKS_TO_PEOPLE


@pytest.fixture
def kora(tmp_path: Path) -> Kora:
    made = Kora(tmp_path, SCHEMA)
    assert made("migrate").code == 0
    with made.store() as store:
        node = Node()
        apply(store, *(node.insert(f"r{number}", {"title": "a", "n": number}) for number in range(3)))
    return made


def test_records(kora: Kora) -> None:
    as_flag, as_format = kora("query", "todos", "--json"), kora("query", "todos", "--format", "json")
    assert as_flag == as_format
    assert [one["n"] for one in as_flag.json] == [0, 1, 2]
    assert kora("count", "todos", "--where", "n=1", "--json").json == {"collection": "todos", "count": 1}


def test_migrations(kora: Kora) -> None:
    kora.use(GROWN)
    plan = kora("migrate", "--dry-run", "--json")
    assert plan.err == ""
    assert (plan.json["needed"], plan.json["destructive"]) == (True, False)
    assert plan.json["rows"] == {"todos": "states", "lists": "log"}
    step = plan.json["steps"][0]
    assert (step["collection"], step["destructive"]) == ("todos", False)
    assert step["summary"].startswith("add column todos.done")
    assert step["statements"][0].startswith("ALTER TABLE")

    assert kora("migrate", "--json").json == {**plan.json, "made": {"todos": 3, "lists": 0}}
    assert kora("migrate", "--dry-run", "--json").json == {
        "needed": False,
        "destructive": False,
        "steps": [],
        "rows": {},
    }
    assert kora("backfill", "--json").json == {"made": {"todos": 3, "lists": 0}}


def test_a_refusal_prints_nothing_on_stdout(kora: Kora) -> None:
    kora.use(RETYPED)
    for command in (["migrate", "--json"], ["query", "todos", "--json"], ["count", "lists", "--json"]):
        ended = kora(*command)
        assert (ended.code, ended.out) == (1, "")
        assert ended.err.startswith("kora: ")
    kora.config.write_text("prot = 1")
    for command in (["config", "show", "--json"], ["config", "check", "--json"], ["count", "todos", "--json"]):
        ended = kora(*command)
        assert (ended.code, ended.out) == (78, "")


def test_backups(kora: Kora, tmp_path: Path) -> None:
    target = tmp_path / "today.kora"
    assert kora("backup", str(target), "--json").json == {"file": str(target), "bytes": target.stat().st_size}
    assert kora("restore", str(target), "--merge", "--json").json == {"added": 0}
    assert kora("restore", str(target), "--json").json == {"restored": 3}


def test_the_configuration_in_force_secrets_masked(tmp_path: Path) -> None:
    kora = Kora(tmp_path, SCHEMA, f'{CONFIG}[admin]\nadmin_token = "s3cret"\n')
    shown = kora("config", "show", "--json")
    assert "s3cret" not in shown.out
    settings = shown.json["settings"]
    assert (settings["admin"]["admin_token"], settings["admin"]["data_token"]) == ("***", None)
    assert (settings["server"]["port"], settings["server"]["host"]) == (0, "127.0.0.1")
    assert (settings["static"], settings["routes"]) == (None, [])
    assert shown.json["origins"]["server.port"] == str(kora.config)
    assert "server.path" not in shown.json["origins"]


def test_tokens(tmp_path: Path) -> None:
    kora = Kora(tmp_path, SCHEMA, f'[auth]\nkind = "kora"\n[auth.kora]\nsecret = "{SECRET}"\ndatabase = ""\n')
    token = kora("token", "issue", "--user", "ali").out.strip()
    assert kora("token", "verify", token, "--json") == kora("token", "verify", token)
    assert kora("token", "verify", token, "--json").json["claims"]["sub"] == "ali"
    refused = kora("token", "verify", "x", "--json")
    assert (refused.code, json.loads(refused.out)["verdict"]) == (1, "refused")


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["version", "--json"])
    assert json.loads(capsys.readouterr().out) == {"version": VERSION}
