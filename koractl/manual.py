"""`kora man` and man/kora.1: the manual page, from the commands themselves.

After a change of commands: `python -m koractl.manual` in the repository writes man/kora.1 again; a test compares.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from inspect import Parameter, getdoc, signature
from pathlib import Path
from textwrap import wrap
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from kora_daemon.version import VERSION

_ABOUT = """\
Devices of an app written with Kora.js keep their data with them and sync through the daemon. It is configured by one
TOML file; a file with no keys at all is a valid configuration. Commands work without a running daemon unless they say
otherwise. Data go to stdout, talk goes to stderr."""

_ROOT_OPTIONS = (
    ("\\-\\-debug", "Show the traceback when something fails. Every command has this option, too."),
    ("\\-\\-version", "Show the version."),
    ("\\-\\-install\\-completion", "Install completion for the shell that this is called from."),
    ("\\-\\-show\\-completion", "Print what that would install."),
    ("\\-\\-help", "Show the commands; behind a command, its options."),
)
_ESCAPES = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", '"': "\\(dq"}
_WIDTH = 76
_EVERYWHERE = "debug"
"""The option that is not told again for each command."""
_ENVIRONMENT = (
    ("KORA_CONFIG", "The configuration file, when \\fB\\-\\-config\\fR is absent."),
    ("KORA_\\fITABLE\\fB__\\fIKEY", "Overrides a key of the file, such as \\fBKORA_SERVER__PORT=5000\\fR."),
    ("NO_COLOR", "When it is set, nothing is coloured."),
)
_FILES = (
    ("./kora.toml", "The configuration file, when neither \\fB\\-\\-config\\fR nor \\fBKORA_CONFIG\\fR names one."),
    ("/etc/kora/kora.toml", "Where system services look for theirs."),
)
_EXIT_STATUS = (
    ("0", "All is well."),
    ("1", "Something failed; a sentence on stderr says what, and what to do."),
    ("2", "The command line is wrong."),
    ("78", "The configuration is wrong (EX_CONFIG); a line for each problem."),
)
_SIGNALS = (
    ("SIGTERM, SIGINT", "\\fBkora serve\\fR finishes what it is writing, closes its sessions, and ends."),
    ("SIGHUP", "It reads its configuration again, and applies what can change live."),
)


def man() -> None:
    """Print the manual page, for man -l - and the like."""
    # Here, since the app has `man` in it.
    from koractl.app import app  # noqa: PLC0415

    typer.echo(manual_page(app), nl=False)


def manual_page(app: typer.Typer) -> str:
    """The page of an app, in the language of man(7)."""
    lines = [
        '.\\" Written by `python -m koractl.manual`.',
        f'.TH KORA 1 "" "Kora Daemon {VERSION}" "Kora Daemon"',
        *_section("NAME", "kora \\- a self\\-hosted sync server for Kora.js apps"),
        *_section("SYNOPSIS", ".B kora", ".RI [ OPTION ]...", ".I COMMAND", ".RI [ ARGUMENT ]..."),
        *_section("DESCRIPTION", *_paragraphs(_ABOUT)),
        *_section("OPTIONS", *_entries(_ROOT_OPTIONS)),
        *_section("COMMANDS"),
    ]
    for path, function in _commands(app, ("kora",)):
        parameters = list(_parameters(function))
        usage = " ".join((*path, "[OPTION]...", *argument_usage(function)))
        lines += [f'.SS "{_line(usage)}"', *_paragraphs(getdoc(function) or "")]
        lines += _entries((one.term, _text(one.meaning)) for one in sorted(parameters, key=lambda one: one.is_option))
    for name, entries in (
        ("ENVIRONMENT", _ENVIRONMENT),
        ("FILES", _FILES),
        ("EXIT STATUS", _EXIT_STATUS),
        ("SIGNALS", _SIGNALS),
    ):
        lines += _section(name, *_entries(entries))
    return "\n".join(lines) + "\n"


def _section(name: str, *lines: str) -> Iterator[str]:
    yield from (f'.SH "{name}"' if " " in name else f".SH {name}", *lines)


def _entries(entries: Iterable[tuple[str, str]]) -> Iterator[str]:
    for term, meaning in entries:
        yield from (".TP", f"\\fB{term}\\fR", meaning)


def _commands(app: typer.Typer, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Callable[..., Any]]]:
    for command in app.registered_commands:
        if command.callback is not None and not command.hidden:
            name = command.name or command.callback.__name__.replace("_", "-")
            yield (*path, name), command.callback
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from _commands(group.typer_instance, (*path, str(group.name)))


class _Parameter(NamedTuple):
    """An option or argument of a command; `value` is what stands for its value, empty for a flag."""

    names: Sequence[str]
    value: str
    is_option: bool
    is_required: bool
    meaning: str

    @property
    def term(self) -> str:
        """How it is written, between a switch to bold letters and one back."""
        if not self.is_option:
            return f"\\fI{_text(self.value)}"
        names = "\\fR, \\fB".join(_text(name) for name in self.names)
        return f"{names} \\fI{_text(self.value)}" if self.value else names


def _parameters(function: Callable[..., Any]) -> Iterator[_Parameter]:
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in signature(function).parameters.items():
        for info in getattr(hints[name], "__metadata__", ()):
            if isinstance(info, OptionInfo | ArgumentInfo) and not info.hidden and name != _EVERYWHERE:
                yield _parameter(name, parameter.default, get_args(hints[name])[0], info)


def _parameter(name: str, default: object, of: object, info: OptionInfo | ArgumentInfo) -> _Parameter:
    is_option, is_required = isinstance(info, OptionInfo), default is Parameter.empty
    # Inside Annotated, the first name stands where a default would.
    given = [one for one in (info.default, *(info.param_decls or ())) if isinstance(one, str)]
    names = given or [f"--{name.replace('_', '-')}"]
    notes = []
    if info.envvar:
        notes.append(f"environment: {info.envvar}")
    if is_option and not is_required and default not in (None, False, True):
        notes.append(f"default: {_plain(default)}")
    if is_option and is_required:
        notes.append("required")
    meaning = (info.help or "") + (f" [{', '.join(notes)}]" if notes else "")
    value = "" if is_option and of is bool else info.metavar or _value_name(name, of)
    return _Parameter(names, value, is_option, is_required, meaning)


def _value_name(name: str, of: object) -> str:
    if isinstance(of, type) and issubclass(of, Enum):
        return "|".join(_plain(one) for one in of)
    kinds = {of, *get_args(of)}
    if Literal is get_origin(of):
        return "|".join(map(_plain, get_args(of)))
    return "N" if kinds & {int, float} else name.upper()


def argument_usage(function: Callable[..., Any]) -> Iterator[str]:
    """The arguments of a command, as they stand behind its name."""
    for one in _parameters(function):
        if not one.is_option:
            choice = f"{{{one.value}}}" if "|" in one.value else one.value
            yield choice if one.is_required else f"[{one.value}]"


def _plain(value: object) -> str:
    return str(value.value if isinstance(value, Enum) else value)


def _paragraphs(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(re.split(r"\n\s*\n", text.strip())):
        yield from ((".PP",) if number else ())
        yield _text(" ".join(paragraph.split()))


def _text(text: str) -> str:
    """Lines in which nothing is a request or an escape, and a hyphen is one that can be copied."""
    return "\n".join(map(_line, wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False)))


def _line(text: str) -> str:
    for character, escape in _ESCAPES.items():
        text = text.replace(character, escape)
    text = re.sub(r"[^ -~]", lambda found: f"\\[u{ord(found[0]):04X}]", text)
    return f"\\&{text}" if text.startswith((".", "\\(aq")) else text


def write_all(root: Path) -> None:
    """Write the page again, below the repository's folder."""
    from koractl.app import app  # noqa: PLC0415

    (root / "man" / "kora.1").write_text(manual_page(app), encoding="ascii")


if __name__ == "__main__":
    write_all(Path.cwd())
