"""`kora query` and `kora count`: the records of the app's collections."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from kora_daemon.config import load_settings
from kora_daemon.maintenance import opened_store
from kora_daemon.materialization.conditions import checked_collection, checked_query, column_kind, written_value
from kora_daemon.model.record import RecordQuery
from kora_daemon.model.schema import Collection, Schema
from kora_daemon.parts import required_schema
from kora_daemon.store.contract import Store
from koractl import completion
from koractl.formats import Format, write_outcome, write_records
from koractl.options import DEFAULT_CONFIG, ConfigOption, JsonOption

CollectionArgument = Annotated[
    str,
    typer.Argument(
        metavar="COLLECTION", help="The collection, as the schema calls it.", autocompletion=completion.collections
    ),
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="FIELD=VALUE",
        help="Only records with this value; FIELD:=JSON for null and for exact types. May be repeated.",
    ),
]


def query(
    collection: CollectionArgument,
    where: WhereOption = None,
    order_by: Annotated[str | None, typer.Option(metavar="FIELD", help="Sort by this field.")] = None,
    desc: Annotated[bool, typer.Option("--desc", help="Sort downwards.")] = False,
    limit: Annotated[int | None, typer.Option(min=0, help="At most so many records.")] = None,
    offset: Annotated[int, typer.Option(min=0, help="Leave out so many records at the beginning.")] = 0,
    include_deleted: Annotated[bool, typer.Option("--include-deleted", help="Also records that are deleted.")] = False,
    form: Annotated[Format, typer.Option("--format", help="How to write them.")] = Format.TABLE,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Read a collection."""
    with _readable(config) as (store, schema):
        found = checked_collection(schema, collection)
        asked = RecordQuery(_conditions(found, where), order_by, desc, limit, offset, include_deleted)
        checked_query(found, asked)
        columns = ("id", *found.fields, "_created_at", "_updated_at")
        with store.stream_collection(collection, asked) as records:
            write_records(Format.JSON if as_json else form, columns, records)


def count(
    collection: CollectionArgument,
    where: WhereOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Say how many records of a collection there are."""
    with _readable(config) as (store, schema):
        found = checked_collection(schema, collection)
        number = store.count_collection(collection, _conditions(found, where))
    write_outcome(str(number), {"collection": collection, "count": number}, as_json=as_json)


@contextmanager
def _readable(config: Path) -> Iterator[tuple[Store, Schema]]:
    """The store, to be read by the schema of the configuration."""
    settings = load_settings(config)
    schema = required_schema(settings)
    with opened_store(settings, must_exist=True) as store:
        store.use_schema(schema)
        yield store, schema


def _conditions(collection: Collection, given: list[str] | None) -> dict[str, Any]:
    conditions: dict[str, Any] = {}
    for one in given or ():
        name, value = _condition(collection, one)
        if name in conditions:
            raise typer.BadParameter(f"{name} is given twice, and can have one value only", param_hint="--where")
        conditions[name] = value
    return conditions


def _condition(collection: Collection, given: str) -> tuple[str, Any]:
    name, separator, text = given.partition("=")
    if not separator:
        raise typer.BadParameter(f"{given!r} has no =, expected FIELD=VALUE or FIELD:=JSON", param_hint="--where")
    exact = name.endswith(":")
    name = name.removesuffix(":")
    try:
        return name, written_value("json" if exact else column_kind(collection, name), text)
    except ValueError as error:
        raise typer.BadParameter(f"{given!r}: {text!r} is no JSON: {error}", param_hint="--where") from None
