"""`kora bench`: what a server carries. A command for each mode, with the parameters of its load as options."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import Field, asdict, fields
from enum import StrEnum
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, get_type_hints

import typer

from kora_daemon.bench.modes import MODES, Mode
from kora_daemon.bench.report import Figures, Report
from kora_daemon.bench.rig import Subject, rig
from kora_daemon.bench.samples import PERCENTILES
from koractl.commands import Commands
from koractl.formats import print_table, write_json
from koractl.options import JsonOption

TOKEN_VARIABLE = "KORA_BENCH_TOKEN"  # noqa: S105  a name

app = Commands(
    help="Measure what a server carries: a daemon started for it, or with --url any other.", no_args_is_help=True
)


class StoreKind(StrEnum):
    """The store of the daemon that is started."""

    MEMORY = "memory"
    SQLITE = "sqlite"
    POSTGRES = "postgres"


class SchemaKind(StrEnum):
    """Its schema."""

    TODOS = "todos"
    NONE = "none"


def _subject(
    store: Annotated[StoreKind, typer.Option(help="The store of the daemon that is started.")] = StoreKind.SQLITE,
    store_url: Annotated[
        str | None,
        typer.Option(
            "--store-url", metavar="URL", envvar="KORA_BENCH_STORE_URL", help="The database, with --store postgres."
        ),
    ] = None,
    schema: Annotated[
        SchemaKind,
        typer.Option(help="Its schema: one collection, or none: then the log alone is kept."),
    ] = SchemaKind.TODOS,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help=f"Start none: measure the server at this URL (ws://), with the token in {TOKEN_VARIABLE} if any.",
        ),
    ] = None,
    pid: Annotated[int | None, typer.Option(metavar="PID", help="That server's process, for CPU and memory.")] = None,
    store_pid: Annotated[
        int | None, typer.Option(metavar="PID", help="The database's main process, which is counted apart.")
    ] = None,
    patience: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="Give up what makes no progress after so long.")
    ] = 60.0,
) -> Subject:
    return Subject(
        store=store.value,
        store_url=store_url,
        tables=schema is SchemaKind.TODOS,
        url=url,
        pid=pid,
        store_pid=store_pid,
        token=os.environ.get(TOKEN_VARIABLE),
        patience_s=patience,
    )


def _command(name: str, mode: Mode) -> Callable[..., None]:
    """The command of a mode. Its options are the fields of the load, and then those that all modes have."""
    loads, subjects = fields(mode.load), signature(_subject).parameters

    def command(*, as_json: bool, **given: Any) -> None:  # noqa: ANN401  as the signature below says
        load = mode.load(**{one.name: given[one.name] for one in loads})
        # A daemon that was started for this does not outlive it.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with rig(_subject(**{one: given[one] for one in subjects})) as made:
            figures = mode.run(made, load)
        problems = {what: times for what, times in made.trouble.items() if times}
        report = Report(name, asdict(load), figures, problems)
        write_json(report.values()) if as_json else _print(report)
        if problems:
            raise typer.Exit(1)

    shared = get_type_hints(_subject, include_extras=True)
    options = [_parameter(one.name, _annotation(one, mode.load), one.default) for one in loads]
    options += [_parameter(one, shared[one], parameter.default) for one, parameter in subjects.items()]
    options.append(_parameter("as_json", JsonOption, False))
    # What typer and the manual go by.
    command.__signature__ = Signature(options)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in options}
    command.__doc__ = mode.summary
    return command


def _parameter(name: str, annotation: object, default: object) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _annotation(one: Field[Any], load: type[Any]) -> object:
    declared = typer.Option(help=one.metadata["meaning"], min=one.metadata["least"], metavar=one.metadata["metavar"])
    return Annotated[get_type_hints(load)[one.name], declared]


for _name, _mode in MODES.items():
    app.command(_name)(_command(_name, _mode))


def _print(report: Report) -> None:
    from rich.table import Table  # noqa: PLC0415  so that a start does not wait for it

    table = Table("", report.mode)
    for name, value in _lines(report.figures):
        table.add_row(name, value)
    print_table(table)
    for problem, times in report.problems.items():
        typer.echo(f"kora: {problem}{f' ({times:,} times)' if times > 1 else ''}", err=True)


def _lines(figures: Figures, of: str = "") -> Iterator[tuple[str, str]]:
    """A line for each figure; percentiles share one."""
    for name, value in figures.items():
        words = f"{of}{_spoken(name)}"
        if not isinstance(value, dict):
            yield words, _number(value)
        elif value.keys() == PERCENTILES.keys():
            yield words, "  ".join(f"{one} {_number(number)}" for one, number in value.items())
        else:
            yield from _lines(value, f"{words}: ")


def _spoken(name: str) -> str:
    """`operationsPerSecond` as people say it."""
    return re.sub("(?<=[a-z0-9])(?=[A-Z])|(?<=[a-z])(?=[0-9])", " ", name).lower().replace("mi b", "MiB")


def _number(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "?" if value is None else f"{value:,}"
