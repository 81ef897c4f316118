"""`kora status`, `sessions`, `kick` and `tail`: what a running daemon does, and with whom."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from kora_daemon.errors import KoraError
from koractl.asking import UrlOption, running_daemon
from koractl.formats import Format, write_json, write_outcome, write_records
from koractl.options import DEFAULT_CONFIG, ConfigOption, JsonOption

PAGE = 1_000
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_SIZES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "bytes"))
_COLUMNS = ("session", "node", "user", "address", "transport", "phase", "age", "lag", "buffered")

UserOption = Annotated[str | None, typer.Option(metavar="USER", help="Only sessions of this user.")]
NodeOption = Annotated[str | None, typer.Option(metavar="NODE", help="Only sessions of this device.")]
AddressOption = Annotated[str | None, typer.Option(metavar="ADDRESS", help="Only sessions from this address.")]


def status(
    as_json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
) -> None:
    """Show how a running daemon is."""
    daemon = running_daemon(config, url)
    found = daemon.get("/__kora/status")
    if as_json:
        write_json(found)
        return
    store, log, sessions, totals, process = (found[one] for one in ("store", "log", "sessions", "totals", "process"))
    trouble = f"does not take writes: {store['failure']}" if store["failure"] else "takes writes"
    refused = sum(totals["rejections"].values())
    lines = {
        "daemon": f"{found['version']} at {daemon.place}, up {_duration(found['uptime'])}",
        "store": f"{store['kind']}, {_size(store['bytes'])}, {trouble}",
        "log": f"{log['operations']:,} operations, {_plus(log['lastMinute'])} in the last minute",
        "sessions": f"{sessions['total']:,}{_counts(sessions['byPhase'])}, by {_counts(sessions['byTransport'])[2:]}"
        if sessions["total"]
        else "none",
        "uploaded": f"{totals['uploadedOperations']:,} operations, {refused:,} refused{_counts(totals['rejections'])}",
        "delivered": f"{totals['deliveredOperations']:,} operations, {_size(totals['deliveredBytes'])}",
        "process": f"{_size(process['rssBytes'])}, {process['cpuSeconds']:,.0f} s of CPU, "
        f"{process['descriptors']} of {process['maxDescriptors']} descriptors",
    }
    if found["draining"]:
        lines["daemon"] += ", is shutting down"
    for name, line in lines.items():
        typer.echo(f"{name:<10} {line}")
    for one in sessions["slowest"]:
        typer.echo(f"{'behind':<10} session {one['session']} of {one['user'] or 'nobody'}: {one['lag']:,} operations")


def sessions(
    user: UserOption = None,
    node: NodeOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
) -> None:
    """List who is connected to a running daemon."""
    daemon = running_daemon(config, url)
    found: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        page = daemon.get("/__kora/sessions", user=user, node=node, address=address, after=after, limit=PAGE)
        found += page["sessions"]
        after = page["next"]
    if as_json:
        write_records(Format.JSON, (), found)
    else:
        write_records(Format.TABLE, _COLUMNS, map(_for_people, found))


def kick(
    session: Annotated[int | None, typer.Argument(metavar="SESSION", help="The number of a session.")] = None,
    user: UserOption = None,
    node: NodeOption = None,
    address: AddressOption = None,
    refuse: Annotated[
        bool, typer.Option("--refuse", help="Tell them that they are not welcome: apps sign their users out.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
) -> None:
    """Close sessions of a running daemon; without --refuse they come again."""
    daemon, refusal = running_daemon(config, url), 1 if refuse else None
    if session is not None:
        if user or node or address:
            raise typer.BadParameter("give the number of a session, or --user, --node, --address, not both")
        found = daemon.post(f"/__kora/sessions/{session}/kick", refuse=refusal)
    elif user or node or address:
        found = daemon.post("/__kora/kick", user=user, node=node, address=address, refuse=refusal)
    else:
        raise typer.BadParameter("say whom: the number of a session, or --user, --node, --address")
    kicked = found["kicked"]
    write_outcome(f"Closed {kicked} session{'' if kicked == 1 else 's'}.", found, as_json=as_json)


def tail(
    collection: Annotated[str | None, typer.Option(metavar="C", help="Only operations on this collection.")] = None,
    record: Annotated[str | None, typer.Option(metavar="ID", help="Only operations on this record.")] = None,
    node: Annotated[str | None, typer.Option(metavar="NODE", help="Only operations of this device.")] = None,
    kind: Annotated[str | None, typer.Option("--type", metavar="TYPE", help="insert, update or delete.")] = None,
    data: Annotated[bool, typer.Option("--data", help="Show what is in them.")] = False,
    after: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Begin behind this place in the log, if it is recent.")
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
) -> None:
    """Follow the operations that a running daemon stores, as they come."""
    daemon = running_daemon(config, url)
    wanted = {"collection": collection, "record": record, "node": node, "type": kind}
    for line in daemon.lines("/__kora/tail", **wanted, after=after, data=1 if data else None):
        sys.stdout.write(f"{json.dumps(line) if as_json else _told(line, after)}\n")
        sys.stdout.flush()
    raise KoraError("the daemon has ended")


def _for_people(session: Mapping[str, Any]) -> dict[str, Any]:
    return {**session, "age": _duration(session["age"]), "buffered": _size(session["bufferedBytes"])}


def _told(told: Mapping[str, Any], asked_after: int | None) -> str:
    return _gap(told["gap"], asked_after) if "gap" in told else _operation(told)


def _gap(gap: Mapping[str, int], asked_after: int | None) -> str:
    after, upto = gap["after"], gap["upto"]
    if upto < after:
        return f"-- the log ends at {upto}, before {after}: it goes on from there"
    # Behind the place that was asked for, the daemon passes over nothing that it still has.
    why = "are no longer in memory" if after == asked_after else "went by too fast to be shown"
    return f"-- {after + 1} to {upto} {why}"


def _operation(told: Mapping[str, Any]) -> str:
    text = f"{told['sequence']:>8}  {told['type']:<6}  {told['collection']}/{told['record']}  by {told['node']}"
    return text if "data" not in told else f"{text}  {json.dumps(told['data'])}"


def _counts(counts: Mapping[str, int]) -> str:
    return "".join(f", {count:,} {name}" for name, count in counts.items())


def _plus(number: int | None) -> str:
    return "?" if number is None else f"+{number:,}"


def _duration(seconds: float) -> str:
    whole, parts = int(seconds), []
    for unit_s, name in _UNITS:
        if whole >= unit_s:
            parts.append(f"{whole // unit_s} {name}")
            whole %= unit_s
    return " ".join(parts[:2]) or "0 s"


def _size(size_bytes: int | None) -> str:
    if size_bytes is None:
        return "? bytes"
    unit, name = next(((unit, name) for unit, name in _SIZES if size_bytes >= unit), _SIZES[-1])
    return f"{size_bytes / unit:,.1f} {name}" if unit > 1 else f"{size_bytes} bytes"
