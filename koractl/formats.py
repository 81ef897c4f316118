"""What commands have to say, on stdout: records as table, JSON or CSV, everything else as JSON."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Any

from kora_daemon.materialization.json_text import shown_json

if TYPE_CHECKING:
    from rich.table import Table

Record = dict[str, Any]
_HALF = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_WIDEST_CELL = 60
_MOST_TABLE_ROWS = 1_000
"""A table is laid out as a whole, in memory."""


class Format(StrEnum):
    """How records are written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def write_records(form: Format, columns: Sequence[str], records: Iterable[Record]) -> None:
    """Write records to stdout, one after the other; only a table is made in one go."""
    {Format.TABLE: _write_table, Format.JSON: _write_json, Format.CSV: _write_csv}[form](columns, records)


def write_json(value: object) -> None:
    """Write one value, laid out over lines."""
    sys.stdout.write(f"{shown_json(value, indent=2)}\n")


def write_outcome(sentence: str, value: Mapping[str, Any], *, as_json: bool) -> None:
    """Write what came of a command: a sentence for people, or the same as a JSON object for programs."""
    if as_json:
        write_json(value)
    else:
        sys.stdout.write(f"{sentence}\n")


def _write_json(_columns: Sequence[str], records: Iterable[Record]) -> None:
    separator = "[\n"
    for record in records:
        sys.stdout.write(f"{separator}{shown_json(record)}")
        separator = ",\n"
    sys.stdout.write("[]\n" if separator == "[\n" else "\n]\n")


def _write_csv(columns: Sequence[str], records: Iterable[Record]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    for record in records:
        writer.writerow([_cell(record[name]) for name in columns])


def _write_table(columns: Sequence[str], records: Iterable[Record]) -> None:
    # Here, so that commands that draw no table don't wait for it.
    from rich.table import Table  # noqa: PLC0415

    remaining: Iterator[Record] = iter(records)
    shown = list(islice(remaining, _MOST_TABLE_ROWS))
    table = Table()
    for name in columns:
        numeric = any(isinstance(one[name], int | float) and not isinstance(one[name], bool) for one in shown)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for record in shown:
        # Text of the user's own: nothing in it is markup.
        table.add_row(*(_shortened(_cell(record[name])) for name in columns))
    print_table(table)
    if next(remaining, None) is not None:
        sys.stderr.write(f"kora: only the first {_MOST_TABLE_ROWS} records are shown; --format csv or json has all\n")


def print_table(table: Table) -> None:
    """Print a table as it is: nothing in it is markup. Narrower than its content it is of no use in a pipe."""
    from rich.console import Console  # noqa: PLC0415  as above

    width = None if sys.stdout.isatty() else 10_000
    Console(markup=False, highlight=False, emoji=False, width=width).print(table)


def _shortened(cell: str) -> str:
    # Text of devices: nothing in it may move the cursor or colour the screen.
    line = _CONTROL.sub("\ufffd", cell.replace("\n", "⏎"))
    return line if len(line) <= _WIDEST_CELL else f"{line[: _WIDEST_CELL - 1]}…"


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return _HALF.sub("\ufffd", value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return shown_json(value)
