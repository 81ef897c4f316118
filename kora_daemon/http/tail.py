"""Following the log: operations as they are committed, for whoever wants to see what goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final

import msgspec
import trio
from msgspec import UNSET, Raw, Struct, UnsetType

from kora_daemon.http.access import Role
from kora_daemon.http.event_stream import CONTENT_TYPE, HEADERS, Seats, event
from kora_daemon.http.messages import Request, Response
from kora_daemon.http.routes import Route
from kora_daemon.model.delivery import DeliveryEntry
from kora_daemon.server.sync_server import SyncServer
from kora_daemon.server.tail import Tail

LOOK_INTERVAL_S: Final = 0.1
MOST_AT_ONCE: Final = 1_000
"""Looked at in one interval; of more than that it is said that they were passed over."""
MAX_FOLLOWERS: Final = 4
SILENCE_S: Final = 15.0
"""After which a line without meaning is sent: whoever has gone without a word is noticed."""
_MOST: Final = 2**53
_FILTERS: Final = {"collection": "collection", "record": "record_id", "node": "node_id", "type": "type"}


class _Operation(Struct, rename="camel", gc=False):
    """What is told of an operation besides its data."""

    id: str
    node_id: str
    type: str
    collection: str
    record_id: str
    timestamp: Raw
    sequence_number: int
    data: Raw = Raw(b"null")
    previous_data: Raw = Raw(b"null")
    atomic_ops: Raw | UnsetType = UNSET


class _Told(Struct, rename="camel", gc=False):
    sequence: int
    session: int | UnsetType
    """In which it was uploaded here, where that is known."""
    id: str
    node: str
    type: str
    collection: str
    record: str
    timestamp: Raw
    sequence_number: int
    data: Raw | UnsetType = UNSET
    previous_data: Raw | UnsetType = UNSET
    atomic_ops: Raw | UnsetType = UNSET


class _Gap(Struct, frozen=True):
    """Operations behind `after` and up to `upto` are not told. An `upto` below: another log has taken its place."""

    after: int
    upto: int


_decode = msgspec.json.Decoder(_Operation).decode


class _Filter(Struct, frozen=True):
    """Which operations are wanted, and whether with their data."""

    wanted: dict[str, str]
    with_data: bool

    def told(self, entry: DeliveryEntry) -> _Told | None:
        """What is told of an entry, None when it is not wanted."""
        operation = _decode(entry.body)
        if any(getattr(operation, name) != value for name, value in self.wanted.items()):
            return None
        told = _Told(
            entry.sequence,
            entry.origin or UNSET,
            operation.id,
            operation.node_id,
            operation.type,
            operation.collection,
            operation.record_id,
            operation.timestamp,
            operation.sequence_number,
        )
        if self.with_data:
            told.data, told.previous_data, told.atomic_ops = (
                operation.data,
                operation.previous_data,
                operation.atomic_ops,
            )
        return told


def tail_route(server: SyncServer) -> Route:
    """`/__kora/tail`: a JSON object in each line, or server-sent events for whoever accepts these.

    Query parameters: collection, record, node and type choose operations; `data=1` tells what is in them; `after` is a
    delivery sequence to begin behind: of what is no longer in memory a gap is told, then all that is. Who is too slow,
    or wants to see more than can be shown in passing, is told of the gap, too.
    """
    seats = Seats(MAX_FOLLOWERS)

    async def answer(request: Request) -> Response:
        seats.check()
        wanted = {name: value for key, name in _FILTERS.items() if (value := request.first(key))}
        chosen = _Filter(wanted, request.flag("data"))
        after = request.number("after", server.get_status().frontier, _MOST)
        if "text/event-stream" in request.headers.get("accept", ""):
            return Response(200, _followed(server, seats, chosen, after, _as_event), CONTENT_TYPE, HEADERS)
        return Response(200, _followed(server, seats, chosen, after, _as_line), "application/x-ndjson", HEADERS)

    return Route("/__kora/tail", ("GET",), answer, Role.ADMIN)


def _as_event(told: _Told | _Gap) -> bytes:
    return event("gap" if isinstance(told, _Gap) else "operation", told)


def _as_line(told: _Told | _Gap) -> bytes:
    return msgspec.json.encode({"gap": told} if isinstance(told, _Gap) else told) + b"\n"


async def _followed(
    server: SyncServer, seats: Seats, chosen: _Filter, after: int, form: Callable[[_Told | _Gap], bytes]
) -> AsyncIterator[bytes]:
    with seats.taken():
        silent_until = trio.current_time() + SILENCE_S
        asked_upto = server.log_tail.frontier
        while not server.is_over:
            tail = server.log_tail
            told, after = _news(tail, chosen, after, asked_upto)
            if told:
                yield b"".join(map(form, told))
                silent_until = trio.current_time() + SILENCE_S
            elif trio.current_time() >= silent_until:
                yield b"\n"
                silent_until = trio.current_time() + SILENCE_S
            await trio.sleep(0 if after < min(asked_upto, tail.frontier) else LOOK_INTERVAL_S)


def _news(tail: Tail, chosen: _Filter, after: int, asked_upto: int) -> tuple[list[_Told | _Gap], int]:
    """What is new behind a delivery sequence and to be told, and how far that is.

    Up to `asked_upto` nothing that is in memory is passed over, however much it is.
    """
    if not tail.floor <= after <= tail.frontier:
        held = tail.floor if after < tail.floor else tail.frontier
        return [_Gap(after, held)], held
    entries = tail.part_after(after, MOST_AT_ONCE + 1)
    if len(entries) > MOST_AT_ONCE:
        if after >= asked_upto:
            return [_Gap(after, tail.frontier)], tail.frontier
        del entries[MOST_AT_ONCE:]
    told = [one for entry in entries if (one := chosen.told(entry)) is not None]
    return [*told], entries[-1].sequence if entries else after
