"""`kora apply`: a change by the server's own side, passed on to all devices (store.md section 8)."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import Annotated, Any

import typer

from kora_daemon.apply.predicates import checked_predicate
from kora_daemon.apply.trusted import ConditionalWrite, Mutation, TrustedOutcome, TrustedWrite
from kora_daemon.config import load_settings
from kora_daemon.errors import KoraError
from kora_daemon.maintenance import apply_write
from kora_daemon.model.record import RecordKey
from koractl import completion
from koractl.options import DEFAULT_CONFIG, ConfigOption


class Change(StrEnum):
    """What happens to a record."""

    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"


def apply(
    change: Annotated[Change, typer.Argument(help="What to do.")],
    collection: Annotated[
        str, typer.Argument(metavar="COLLECTION", help="In which collection.", autocompletion=completion.collections)
    ],
    record_id: Annotated[str | None, typer.Argument(metavar="ID", help="To which record.")] = None,
    data: Annotated[
        str | None, typer.Option(metavar="JSON", help="The fields, as an object; - reads it from stdin.")
    ] = None,
    atomic: Annotated[
        str | None,
        typer.Option(metavar="JSON", help='Atomic changes, such as {"votes": {"type": "increment", "value": 1}}.'),
    ] = None,
    condition: Annotated[
        str | None,
        typer.Option("--if", metavar="JSON", help='Only if the record is so: {"votes": {"$lt": 10}}. For updates.'),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Change a record in the server's name; devices get it as from any other device."""
    fields = _object(sys.stdin.read() if data == "-" else data, "--data")
    intents = _object(atomic, "--atomic")
    if change is Change.UPDATE and condition is not None and record_id is not None:
        predicate = checked_predicate(_object(condition, "--if") or {})
        write: TrustedWrite = ConditionalWrite(RecordKey(collection, record_id), predicate, fields, intents)
    elif condition is not None:
        raise typer.BadParameter("goes with the update of a record", param_hint="--if")
    else:
        write = Mutation(change.value, collection, record_id, fields, intents)
    _report(apply_write(load_settings(config), write, _say))


def _report(outcome: TrustedOutcome) -> None:
    if outcome.rejection is not None:
        raise KoraError(f"refused: {outcome.rejection.message} ({outcome.rejection.code})")
    operations = [entry.operation.id for entry in outcome.applied]
    typer.echo(json.dumps({"result": outcome.result, "recordIds": outcome.record_ids, "operations": operations}))


def _say(sentence: str) -> None:
    typer.echo(f"kora: {sentence}", err=True)


def _object(text: str | None, option: str) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"is no JSON: {error}", param_hint=option) from None
    if not isinstance(value, dict):
        raise typer.BadParameter("expected a JSON object", param_hint=option)
    return value
