"""The manual page says what the commands are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from koractl.app import app, main
from koractl.manual import manual_page

ROOT = Path(__file__).parents[3]


def commands(group: TyperGroup, path: str = "kora") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def sections() -> dict[str, str]:
    """What stands below each command, and below each heading, as it reads."""
    plain = re.sub(r"\\f[BIR]", "", manual_page(app)).replace("\\-", "-").replace("\\(dq", '"')
    found = re.split(r'^\.S[HS] "?(.*?)"?$', plain, flags=re.M)
    return dict(zip(found[1::2], found[2::2], strict=True))


def test_the_page_in_the_repository_is_up_to_date() -> None:
    """`python -m koractl.manual` in the repository writes it again."""
    assert (ROOT / "man" / "kora.1").read_text() == manual_page(app)


def test_it_has_every_command_with_all_its_options() -> None:
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    pages = {heading.partition(" [")[0]: text for heading, text in sections().items() if heading.startswith("kora ")}
    assert list(pages) == [name for name, _ in commands(root)]
    for name, command in commands(root):
        assert ["--debug"] in [parameter.opts for parameter in command.params]
        for parameter in command.params:
            if parameter.param_type_name == "option" and parameter.opts not in (["--debug"], ["--help"]):
                assert re.search(rf"^\.TP\n{', '.join(parameter.opts)}( |$)", pages[name], re.M), (name, parameter.opts)
    for parameter in root.params:
        assert f".TP\n{parameter.opts[0]}\n" in sections()["OPTIONS"]


def test_it_tells_values_defaults_and_where_they_come_from() -> None:
    found = sections()
    query = next(text for heading, text in found.items() if heading.startswith("kora query"))
    assert ".TP\n--format table|json|csv\nHow to write them. [default: table]\n" in query
    assert ".TP\n--config FILE\nThe configuration file. [environment: KORA_CONFIG, default: kora.toml]\n" in query
    assert ".TP\n--desc\nSort downwards.\n" in query
    assert "kora query [OPTION]... COLLECTION" in found
    assert "kora apply [OPTION]... {insert|update|delete} COLLECTION [ID]" in found
    for number in ("0", "1", "2", "78"):
        assert f".TP\n{number}\n" in found["EXIT STATUS"]


def test_nothing_in_a_text_is_taken_for_a_request() -> None:
    made = typer.Typer()

    @made.command()
    def odd(value: str = typer.Option("x")) -> None:
        """.so /etc/passwd \\*(x 'quoted' `code` …

        '.second
        """

    page = manual_page(made)
    assert "\n\\&.so /etc/passwd \\e*(x \\(aqquoted\\(aq \\(gacode\\(ga \\[u2026]\n.PP\n\\&\\(aq.second\n" in page
    assert page.isascii()


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["man"])
    assert not ended.value.code
    assert capsys.readouterr().out == manual_page(app)


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("apply", "[OPTIONS] {insert|update|delete} COLLECTION [ID]"),
        ("kick", "[OPTIONS] [SESSION]"),
        ("restore", "[OPTIONS] IN.kora"),
        ("blobs import", "[OPTIONS] FOLDER"),
        ("status", "[OPTIONS]"),
    ],
)
def test_help_writes_arguments_as_the_page_does(command: str, usage: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    assert capsys.readouterr().out.startswith(f"Usage: kora {command} {usage}\n")
