"""Where every command looks for its configuration, and how it ends (config.md, The command kora)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from koractl.app import app, main

ARGUMENTS = {
    "query": ["todos"],
    "count": ["todos"],
    "apply": ["insert", "todos"],
    "backup": ["out.kora"],
    "restore": ["in.kora"],
    "explain": ["--node", "n", "--op", "o"],
    "kick": ["1"],
    "blobs import": ["folder"],
    "token issue": ["--user", "u"],
    "token verify": ["a.b.c"],
}
"""What a command can't do without."""


def commands(group: TyperGroup, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


ROOT = typer.main.get_command(app)
assert isinstance(ROOT, TyperGroup)
CONFIGURED = [
    name for name, command in commands(ROOT) if any(parameter.opts == ["--config"] for parameter in command.params)
]


@pytest.mark.parametrize("name", CONFIGURED)
def test_a_configuration_comes_from_the_option_the_environment_or_the_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KORA_CONFIG", raising=False)

    def named(*options: str) -> str:
        """The file that it complains of; there is none."""
        with pytest.raises(SystemExit) as ended:
            main([*name.split(), *ARGUMENTS.get(name, []), *options])
        out, err = capsys.readouterr()
        # The doctor tells what it found, as of anything else.
        assert ended.value.code == (1 if name == "doctor" else 78)
        said = out if name == "doctor" else err
        file = next(one for one in ("option.toml", "environment.toml", "kora.toml") if f"{one}: there is no" in said)
        assert name == "doctor" or (out, err.count("\n")) == ("", 1)
        return file

    assert named() == "kora.toml"
    monkeypatch.setenv("KORA_CONFIG", "environment.toml")
    assert named() == "environment.toml"
    assert named("--config", "option.toml") == "option.toml"


@pytest.mark.parametrize("name", [name for name, _ in commands(ROOT)])
def test_an_unknown_option_is_a_usage_error(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*name.split(), *ARGUMENTS.get(name, []), "--no-such-option"])
    assert ended.value.code == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", [name for name, _ in commands(ROOT)])
def test_each_command_says_what_it_does(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*name.split(), "--help"])
    assert not ended.value.code
    assert "Usage: kora" in capsys.readouterr().out
