"""`kora explain`: why an operation was or was not delivered to a device."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from koractl.asking import UrlOption, running_daemon
from koractl.options import DEFAULT_CONFIG, ConfigOption, JsonOption


def explain(
    node: Annotated[str, typer.Option(metavar="NODE", help="The node id of the device.")],
    op: Annotated[str, typer.Option(metavar="ID", help="The id of the operation.")],
    as_json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
) -> None:
    """Say why an operation was or was not delivered to a device; needs a running daemon."""
    found = running_daemon(config, url).get("/__kora/explain", node=node, op=op)
    if as_json:
        typer.echo(json.dumps(found))
        return
    typer.echo(f"{found['verdict']}: {found['reason']}")
    if found["sequence"] is not None:
        typer.echo(
            f"  operation   {found['operation']} of {found['author']}, number {found['sequence']} in the log, "
            f"on {found['collection']}/{found['record']}"
        )
    if found["fields"]:
        typer.echo(f"  the record  {_values(found['fields'])}")
    for session in found["sessions"]:
        typer.echo(f"  session {session['session']} of {session['user'] or 'nobody'}: {session['reason']}")
        typer.echo(f"    granted   {_scopes(session['grant'])}")
        typer.echo(f"    in force  {_scopes(session['scopes'])}")
        for collection, where in session["subsets"]:
            typer.echo(f"    query     {collection} {_values(where)}".rstrip())
        if session["progress"] is not None:
            typer.echo("    progress  sent up to {sent}, acknowledged {acknowledged}".format(**session["progress"]))


def _values(fields: dict[str, Any]) -> str:
    return " ".join(f"{name}={json.dumps(value)}" for name, value in fields.items())


def _scopes(scopes: dict[str, dict[str, Any]] | None) -> str:
    if scopes is None:
        return "everything"
    return "; ".join(f"{name} {_values(where)}".rstrip() for name, where in scopes.items()) or "nothing"
