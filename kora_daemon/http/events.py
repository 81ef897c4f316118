"""What happens, as it happens: `status` every two seconds and notable events, as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import trio

from kora_daemon.http.access import Role
from kora_daemon.http.event_stream import CONTENT_TYPE, HEADERS, Seats, event
from kora_daemon.http.messages import Request, Response
from kora_daemon.http.routes import Route
from kora_daemon.http.status import StatusBoard
from kora_daemon.server.journal import KEPT, Event, Journal
from kora_daemon.server.sync_server import SyncServer

STATUS_INTERVAL_S: Final = 2.0
MAX_LISTENERS: Final = 16
RECENT: Final = 50


def events_route(server: SyncServer, board: StatusBoard) -> Route:
    """`/__kora/events`. Begins with the newest `recent` events, or behind the one named by `Last-Event-ID`.

    Who does not read is not waited for: events that have left the ring meanwhile are said to be `missed`, and a
    connection that takes nothing for long is closed.
    """
    seats = Seats(MAX_LISTENERS)

    async def answer(request: Request) -> Response:
        seats.check()
        journal = server.journal
        position = _position(journal, request.headers.get("last-event-id", ""))
        if position is None:
            position = max(journal.last - request.number("recent", RECENT, KEPT), 0)
        return Response(200, _events(server, board, seats, position), CONTENT_TYPE, HEADERS)

    return Route("/__kora/events", ("GET",), answer, Role.ADMIN)


def _identity(journal: Journal, number: int) -> str:
    return f"{journal.begun_ms:x}-{number}"


def _position(journal: Journal, identity: str) -> int | None:
    """The number of an event that a listener has seen; None when it is of another life of the server, or made up."""
    life, _, number = identity.partition("-")
    if life != f"{journal.begun_ms:x}" or not (number.isascii() and number.isdecimal()) or len(number) > 16:
        return None
    return int(number) if int(number) <= journal.last else None


async def _events(server: SyncServer, board: StatusBoard, seats: Seats, position: int) -> AsyncIterator[bytes]:
    journal = server.journal
    with seats.taken():
        yield b"retry: 2000\n\n"
        while not server.is_over:
            yield event("status", await board.status())
            next_status_at = trio.current_time() + STATUS_INTERVAL_S
            while trio.current_time() < next_status_at:
                for one in journal.after(position):
                    if one.number > position + 1:
                        yield event("missed", {"events": one.number - position - 1})
                    yield event("event", event_json(one), _identity(journal, one.number))
                    position = one.number
                with trio.move_on_at(next_status_at):
                    await journal.beyond(position)


def event_json(one: Event) -> dict[str, object]:
    """One event of the journal."""
    return {"number": one.number, "at": one.at_ms, "kind": one.kind, **one.about}
