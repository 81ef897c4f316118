"""Completion: what a shell is offered, and a real bash that uses it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from koractl.app import main
from tests.support.cli import schema_text

Offered = Callable[..., list[str]]
PROGRAMS = Path(sys.executable).parent
SCHEMA = schema_text(todos={"title": "string"}, tags={"name": "string"}, forms={"name": "string"})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "kora.toml").write_text('schema = "schema.json"\n[server]\nprt = "a mistake is no reason to be silent"')
    (tmp_path / "other.toml").write_text('schema = "other.json"')
    (tmp_path / "schema.json").write_text(SCHEMA)
    (tmp_path / "other.json").write_text(schema_text(invoices={"sum": "number"}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KORA_CONFIG", raising=False)
    return tmp_path


@pytest.fixture
def asked(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What `kora` answers to a shell that sets these variables; it complains of nothing."""

    def ask(**environment: str) -> str:
        with monkeypatch.context() as patched:
            for name, value in environment.items():
                patched.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                main([])
        out, err = capsys.readouterr()
        assert (ended.value.code or 0, err) == (0, "")
        return out

    return ask


@pytest.fixture
def offered(asked: Callable[..., str]) -> Callable[..., list[str]]:
    """What bash is offered for the last word of a line."""

    def offer(line: str, **environment: str) -> list[str]:
        words = line.split(" ")
        environment |= {"_KORA_COMPLETE": "complete_bash", "COMP_WORDS": "\n".join(words)}
        return asked(**environment, COMP_CWORD=str(len(words) - 1)).split()

    return offer


def test_commands_options_and_choices_are_offered(offered: Offered) -> None:
    assert offered("kora qu") == ["query"]
    assert set(offered("kora config ")) == {"show", "check", "schema"}
    assert offered("kora query todos --inc") == ["--include-deleted"]
    assert offered("kora query todos --format ") == ["table", "json", "csv"]


def test_collections_are_those_of_the_schema(offered: Offered) -> None:
    assert offered("kora query t") == ["todos", "tags"]
    assert offered("kora count f") == ["forms"]
    assert offered("kora apply insert f") == ["forms"]
    assert offered("kora backfill --collection ") == ["todos", "tags", "forms"]
    assert offered("kora query --config other.toml ") == ["invoices"]
    assert offered("kora query ", KORA_CONFIG="other.toml") == ["invoices"]


@pytest.mark.parametrize("damage", ["schema.json", "kora.toml"])
def test_without_a_schema_nothing_is_offered_and_nothing_is_said(folder: Path, offered: Offered, damage: str) -> None:
    (folder / damage).write_text("[")
    assert offered("kora query ") == []
    (folder / damage).unlink()
    assert offered("kora query ") == []


@pytest.mark.parametrize(
    ("shell", "environment", "expected"),
    [
        ("zsh", {}, '_arguments \'*: :(("todos"\n"tags"))\'\n'),
        ("fish", {"_TYPER_COMPLETE_FISH_ACTION": "get-args"}, "todos\ntags\n"),
    ],
)
def test_other_shells_are_served_too(
    asked: Callable[..., str], shell: str, environment: dict[str, str], expected: str
) -> None:
    variables = {"_TYPER_COMPLETE_ARGS": "kora query t", "_KORA_COMPLETE": f"complete_{shell}", **environment}
    assert asked(**variables) == expected
    assert f"_KORA_COMPLETE=complete_{shell}" in asked(_KORA_COMPLETE=f"source_{shell}")


def test_bash_installs_it_and_completes_with_it_and_leaves_files_to_itself(folder: Path) -> None:
    typed = """
        kora --install-completion > said
        source .bash_completions/kora.sh
        [[ $(complete -p kora) == *"-o default"* ]]  # where nothing is offered, bash offers files
        for line in "kora query t" "kora query --config oth"; do
            COMP_WORDS=($line); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
            _kora_completion kora
            echo "${COMPREPLY[*]}"
        done
    """
    ended = subprocess.run(
        ["bash", "--norc", "-euc", typed],
        cwd=folder,
        env={"PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (ended.stdout, ended.stderr) == ("todos tags\n\n", "")
    assert (folder / "said").read_text().startswith("bash completion installed in ")
