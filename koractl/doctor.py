"""`kora doctor`: what is wrong with this host, the database and the configuration, and what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import typer
from msgspec import to_builtins

from kora_daemon.doctor.checks import Severity
from kora_daemon.doctor.examination import Diagnosis
from kora_daemon.log import configure
from koractl.formats import print_table, write_json
from koractl.options import DEFAULT_CONFIG, ConfigOption, JsonOption

_STYLES = {Severity.OK: "green", Severity.WARNING: "yellow", Severity.FAILURE: "bold red"}


def doctor(as_json: JsonOption = False, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Check the configuration against this host, the database and the network; exit with 1 when something fails.

    Changes nothing, and needs no running daemon. Run it as the daemon's user, who may do what the daemon may.
    """
    # Here, since it brings along all that is looked at: databases, certificates.
    from kora_daemon.doctor.rounds import diagnose  # noqa: PLC0415

    configure("error", "console")
    found = list(diagnose(config))
    counts = Counter(one.severity for one in found)
    if as_json:
        write_json({"checks": to_builtins(found), "counts": {one: counts[one] for one in Severity}})
    else:
        _print(found)
        typer.echo(f"kora: {_summary(counts)}", err=True)
    if counts[Severity.FAILURE]:
        raise typer.Exit(1)


def _print(found: Sequence[Diagnosis]) -> None:
    from rich.table import Table  # noqa: PLC0415  so that a start does not wait for it

    table = Table()
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("found", overflow="fold", ratio=3)
    table.add_column("way out", overflow="fold", ratio=2)
    for one in found:
        style = _STYLES[one.severity]
        table.add_row(one.id, f"[{one.severity}]", one.found, one.remedy, style=style)
    print_table(table)


def _summary(counts: Counter[Severity]) -> str:
    said = [
        f"{counts[one]} {one}{'s' if counts[one] > 1 else ''}"
        for one in (Severity.FAILURE, Severity.WARNING)
        if counts[one]
    ]
    return " and ".join(said) or f"all {counts[Severity.OK]} checks are well"
