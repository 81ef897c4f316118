"""Documents name commands and options that there are, and leave none of them out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import typer
import yaml
from typer.core import TyperGroup

from koractl.app import app
from tests.integration.test_docs import PAGES, ROOT

OF_MANY = {"--config", "--url", "--json", "--debug", "--help"}
"""Options that are explained once, in docs/commands.md."""
_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.M)
_IN_FENCE = re.compile(r"(?:^|\$ |&& |\| |\$\(|sudo |exec kora )(?:\S*/)?kora (?P<words>[^|;&)>\n]+)", re.M)
_IN_TEXT = re.compile(r"`kora (?P<words>[^`]+)`")


class Typed(NamedTuple):
    """A command as a page has it: its words behind `kora`."""

    page: str
    words: list[str]


def _commands(group: TyperGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from _commands(command, (*path, name))
        else:
            yield (*path, name), command


def _root() -> TyperGroup:
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    return root


def _options(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts if option.startswith("--")}


def _typed() -> list[Typed]:
    found = []
    for page in PAGES:
        text = page.read_text()
        shells = "".join(one["text"] for one in _FENCE.finditer(text) if one["language"] in ("sh", "shell", "console"))
        for words in _IN_FENCE.findall(shells) + _IN_TEXT.findall(_FENCE.sub("", text)):
            found.append(Typed(page.name, words.split()))
    return found


COMMANDS = dict(_commands(_root()))
TYPED = _typed()


def _command_of(words: list[str]) -> tuple[str, ...]:
    """The path of the command that these words call; empty for none."""
    return next((path for path in COMMANDS if tuple(words[: len(path)]) == path), ())


def test_every_command_in_a_page_is_there_with_its_options() -> None:
    assert len(TYPED) > 100
    for page, words in TYPED:
        path = _command_of(words)
        known = _options(COMMANDS[path] if path else _root())
        assert path or words[0].startswith("--") or words == ["blobs"], f"{page}: kora {' '.join(words)}"
        for option in (word.partition("=")[0] for word in words if word.startswith("--")):
            assert option in known, f"{page}: kora {' '.join(words)}"


def test_every_command_is_in_a_page_with_all_its_options() -> None:
    texts = {page.name: page.read_text() for page in PAGES}
    for path, command in COMMANDS.items():
        pages = {page for page, words in TYPED if _command_of(words) == path}
        assert pages, f"no page names kora {' '.join(path)}"
        told = "".join(texts[page] for page in pages)
        for option in _options(command) - OF_MANY:
            assert re.search(rf"{option}\b", told), f"no page that names kora {' '.join(path)} explains {option}"
    assert set(re.findall(r"^\| `(--\w+)", texts["commands.md"], re.M)) == OF_MANY | {"--version"}


def test_every_alert_has_a_way_out() -> None:
    rules = yaml.safe_load((ROOT / "docs" / "monitoring" / "alerts.yml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    page = (ROOT / "docs" / "operations.md").read_text()
    assert set(re.findall(r"`(Kora[A-Z]\w+)`", page)) == alerts
