"""HTTP/1.1 in front of everything: one port for WebSocket upgrades and plain requests (config.md)."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

import h11
import trio
from msgspec import Struct

HEAD_TIMEOUT_S = 10.0
IDLE_TIMEOUT_S = 30.0
_RECEIVE_BYTES = 16_384
_MAX_HEAD_BYTES = 16_384


class Request(Struct, frozen=True):
    """The head of a request. Header names are lower case; of a repeated header the last one counts."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    raw: bytes
    """The head's bytes, for whoever speaks another protocol from here on."""

    @property
    def wants_upgrade(self) -> bool:
        """Whether it asks for a WebSocket."""
        tokens = [token.strip().lower() for token in self.headers.get("connection", "").split(",")]
        return "upgrade" in tokens and self.headers.get("upgrade", "").lower() == "websocket"


class Response(Struct, frozen=True):
    """An answer with a JSON or text body."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


def json_response(status: int, value: Mapping[str, Any]) -> Response:
    """An answer with a JSON object."""
    return Response(status, json.dumps(value).encode(), "application/json")


def text_response(status: int, text: str, **headers: str) -> Response:
    """An answer with a sentence; `allow="GET"` and the like become headers."""
    return Response(status, text.encode() + b"\n", headers=tuple((name, value) for name, value in headers.items()))


Answer = Callable[[Request], Awaitable[Response]]


class Upgrade(Struct, frozen=True):
    """A request after which the connection speaks WebSocket; `behind` are bytes read beyond its head."""

    request: Request
    behind: bytes


class HttpConnection:
    """One connection that begins with HTTP. `answer` answers plain requests; `accepts_upgrade` says what is none."""

    def __init__(self, stream: trio.abc.Stream, answer: Answer, accepts_upgrade: Callable[[Request], bool]) -> None:
        self._stream = stream
        self._answer = answer
        self._accepts_upgrade = accepts_upgrade
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES)
        self._raw = bytearray()

    async def serve(self) -> Upgrade | None:
        """Serve until there is a request to upgrade, or (None) either side is done.

        A peer that is slow, gone or talks nonsense just ends it.
        """
        timeout = HEAD_TIMEOUT_S
        while True:
            try:
                with trio.fail_after(timeout):
                    request = await self._read_head()
            except h11.RemoteProtocolError as error:
                await self._refuse(error)
                return None
            except trio.TooSlowError:
                return None
            if request is None:
                return None
            if request.wants_upgrade and self._accepts_upgrade(request):
                return Upgrade(request, bytes(self._http.trailing_data[0]))
            await self._respond(request, await self._answer(request))
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                return None  # `Connection: close`, or a body that nobody asked for
            self._http.start_next_cycle()
            self._raw = bytearray(self._http.trailing_data[0])
            timeout = IDLE_TIMEOUT_S

    async def _read_head(self) -> Request | None:
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                data = await self._stream.receive_some(_RECEIVE_BYTES)
                self._raw += data
                self._http.receive_data(bytes(data))
            elif isinstance(event, h11.Request):
                return self._request(event)
            else:
                return None

    def _request(self, event: h11.Request) -> Request:
        behind = len(self._http.trailing_data[0])
        try:
            parts = urlsplit(event.target.decode("latin-1"))
        except ValueError as error:
            raise h11.RemoteProtocolError("the target is no URL") from error
        return Request(
            event.method.decode("latin-1"),
            parts.path or "/",
            parse_qs(parts.query, keep_blank_values=True),
            {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers},
            bytes(self._raw[: len(self._raw) - behind]),
        )

    async def _respond(self, request: Request, response: Response) -> None:
        if self._http.their_state is h11.SEND_BODY:
            with suppress(h11.RemoteProtocolError):  # a broken body: answered all the same, then closed
                self._http.next_event()  # the end of a request without a body
        head = h11.Response(
            status_code=response.status,
            reason=HTTPStatus(response.status).phrase,
            headers=[
                ("content-type", response.content_type),
                ("content-length", str(len(response.body))),
                ("cache-control", "no-store"),
                ("x-content-type-options", "nosniff"),
                *response.headers,
            ],
        )
        data = self._http.send(head) or b""
        if request.method != "HEAD":
            data += self._http.send(h11.Data(data=response.body)) or b""
        data += self._http.send(h11.EndOfMessage()) or b""
        with trio.move_on_after(HEAD_TIMEOUT_S):
            await self._stream.send_all(data)

    async def _refuse(self, error: h11.RemoteProtocolError) -> None:
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        response = text_response(error.error_status_hint, "This is not an HTTP/1.1 request this server can read")
        head = h11.Response(
            status_code=response.status,
            reason=HTTPStatus(response.status).phrase,
            headers=[("content-length", str(len(response.body))), ("connection", "close")],
        )
        data = (self._http.send(head) or b"") + (self._http.send(h11.Data(data=response.body)) or b"")
        with trio.move_on_after(HEAD_TIMEOUT_S):
            await self._stream.send_all(data)
