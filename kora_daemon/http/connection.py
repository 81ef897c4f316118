"""HTTP/1.1 in front of everything: one port for WebSocket upgrades and plain requests (config.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, suppress
from http.client import responses
from urllib.parse import parse_qs, urlsplit

import h11
import structlog
import trio
from msgspec import Struct

from kora_daemon.errors import NotRunning, StoreUnavailable
from kora_daemon.http.messages import Answer, Body, HttpError, Request, Response, text_response

HEAD_TIMEOUT_S = 10.0
IDLE_TIMEOUT_S = 30.0
BODY_TIMEOUT_S = 30.0
"""For the next piece of a body, in either direction."""
LINGER_S = 2.0
LINGER_BYTES = 1 << 20
"""Read and thrown away of a body that nobody wanted, so that the peer gets to read the answer."""
COME_AGAIN_S = 2
_RECEIVE_BYTES = 16_384
_MAX_HEAD_BYTES = 16_384
_PIECES_AT_ONCE = 32
"""Of a body, before others have their turn."""

_REFUSALS = {
    431: f"The head of this request is too large, expected at most {_MAX_HEAD_BYTES} bytes\n".encode(),
    501: b"This Transfer-Encoding is not supported, expected chunked or none\n",
}
"""By what h11 would have answered."""

log = structlog.get_logger("kora.http")


class Upgrade(Struct, frozen=True):
    """A request after which the connection speaks WebSocket; `behind` are bytes read beyond its head."""

    request: Request
    behind: bytes


class Caller(Struct, frozen=True):
    """Who is at the other end, by a request's headers, which a trusted proxy may have set."""

    address_of: Callable[[Mapping[str, str]], str]
    is_local: bool = False
    is_secure_of: Callable[[Mapping[str, str]], bool] = lambda _headers: False
    is_proxy: bool = False
    """It is a trusted proxy: behind it is somebody else, whether it says so or not."""


class HttpConnection:
    """One connection that begins with HTTP. `answer` answers plain requests; `accepts_upgrade` says what is none."""

    def __init__(
        self, stream: trio.abc.Stream, caller: Caller, answer: Answer, accepts_upgrade: Callable[[Request], bool]
    ) -> None:
        self._stream = stream
        self._caller = caller
        self._answer = answer
        self._accepts_upgrade = accepts_upgrade
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES)
        self._raw = bytearray()
        self._pieces = 0

    async def serve(self) -> Upgrade | None:
        """Serve until there is a request to upgrade, or (None) either side is done.

        A peer that is slow, gone or talks nonsense just ends it.
        """
        timeout = HEAD_TIMEOUT_S
        while True:
            request = None
            try:
                with trio.CancelScope(deadline=trio.current_time() + timeout):
                    request = await self._read_head()
            except h11.RemoteProtocolError as error:
                await self._refuse(error)
            if request is None:
                return None
            if request.wants_upgrade and self._accepts_upgrade(request):
                return Upgrade(request, bytes(self._http.trailing_data[0]))
            await self._serve_one(request)
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                await self._linger()
                return None  # `Connection: close`, or a body that nobody asked for
            self._http.start_next_cycle()
            self._raw = bytearray(self._http.trailing_data[0])
            timeout = IDLE_TIMEOUT_S

    async def _serve_one(self, request: Request) -> None:
        with suppress(h11.RemoteProtocolError):  # a broken body: answered all the same, then closed
            if self._http.their_state is h11.SEND_BODY and _has_no_body(request):
                self._http.next_event()
        if self._http.their_state is h11.SEND_BODY:
            await self._respond(request, await self._answered(request))
            return
        # Whoever hangs up while an answer is held or streamed is not waited for.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_for_hangup, nursery.cancel_scope)
            await self._respond(request, await self._answered(request))
            nursery.cancel_scope.cancel()

    async def _watch_for_hangup(self, serving: trio.CancelScope) -> None:
        # Once only: what comes early is the next request, and its sender is still there.
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            if data := await self._stream.receive_some(_RECEIVE_BYTES):
                self._http.receive_data(bytes(data))
                return
        serving.cancel()

    async def _answered(self, request: Request) -> Response:
        try:
            return await self._answer(request)
        except HttpError as error:
            return text_response(error.status, str(error), **error.headers)
        except StoreUnavailable:
            return text_response(503, "The store does not answer", **{"retry-after": str(COME_AGAIN_S)})
        except NotRunning:
            return text_response(503, "The server is shutting down", **{"retry-after": str(COME_AGAIN_S)})
        except Exception:
            log.exception("http.failed", method=request.method, path=request.path)
            return text_response(500, "Something went wrong here; the log of the server says what")

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
        path, query = _target(event.target.decode("latin-1"))
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
        if "transfer-encoding" in headers and "content-length" in headers:
            # A proxy in between may have taken the other one for the end of the body (RFC 9112 section 6.1).
            raise h11.RemoteProtocolError("the body has two lengths")
        length = headers.get("content-length", "")
        return Request(
            event.method.decode("latin-1"),
            path,
            parse_qs(query, keep_blank_values=True),
            headers,
            bytes(self._raw[: len(self._raw) - behind]),
            Body(self._next_chunk, int(length) if length.isdecimal() else None),
            self._caller.address_of(headers),
            self._caller.is_local,
            self._caller.is_secure_of(headers),
            self._caller.is_proxy,
        )

    async def _next_chunk(self) -> bytes:
        if self._http.their_state is not h11.SEND_BODY:
            return b""
        if self._http.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[], reason="Continue")
            await self._stream.send_all(self._http.send(go_on) or b"")
        self._pieces += 1
        if self._pieces % _PIECES_AT_ONCE == 0:
            await trio.lowlevel.checkpoint()  # one byte in each piece is a lot of work for little to send
        try:
            with trio.fail_after(BODY_TIMEOUT_S):
                while (event := self._http.next_event()) is h11.NEED_DATA:
                    self._http.receive_data(bytes(await self._stream.receive_some(_RECEIVE_BYTES)))
        except trio.TooSlowError:
            raise HttpError(408, f"Nothing came of the body for {BODY_TIMEOUT_S:g} s") from None
        except h11.RemoteProtocolError as error:
            raise HttpError(400, "The body is broken: it is not as its head announces, in length or chunks") from error
        except trio.BrokenResourceError:
            raise HttpError(400, "The connection was lost before the end of the body") from None
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    async def _respond(self, request: Request, response: Response) -> None:
        try:
            await self._write(request, response)
        except BaseException:
            response.lost()
            raise
        response.sent()

    async def _write(self, request: Request, response: Response) -> None:
        body = response.body
        length = ("content-length", str(len(body))) if isinstance(body, bytes) else ("transfer-encoding", "chunked")
        named = {name for name, _ in response.headers}
        has_length = response.status not in (204, 304) and "content-length" not in named
        usual = [("cache-control", "no-store"), ("x-content-type-options", "nosniff")]
        head = h11.Response(
            status_code=response.status,
            reason=responses.get(response.status, ""),
            headers=[
                *([("content-type", response.content_type)] if response.content_type else []),
                *([length] if has_length else []),
                # With a body that nobody has read to its end: `serve` closes then.
                *([("connection", "close")] if self._http.their_state in (h11.SEND_BODY, h11.ERROR) else []),
                *(header for header in usual if header[0] not in named),
                *response.headers,
            ],
        )
        data = self._http.send(head) or b""
        if isinstance(body, bytes):
            if request.method != "HEAD" and body:
                data += self._http.send(h11.Data(data=body)) or b""
        else:
            await self._send_pieces(request, data, body)
            data = b""
        data += self._http.send(h11.EndOfMessage()) or b""
        await self._send(data)

    async def _send_pieces(self, request: Request, head: bytes, body: AsyncIterator[bytes]) -> None:
        async with aclosing(body) as pieces:  # type: ignore[type-var]
            await self._send(head)
            if request.method == "HEAD":
                return
            async for piece in pieces:
                if piece:
                    await self._send(self._http.send(h11.Data(data=piece)) or b"")

    async def _send(self, data: bytes) -> None:
        """Raises BrokenResourceError when the peer is gone, or does not read."""
        try:
            with trio.fail_after(BODY_TIMEOUT_S):
                await self._stream.send_all(data)
        except trio.TooSlowError:
            raise trio.BrokenResourceError("the peer does not read") from None

    async def _refuse(self, error: h11.RemoteProtocolError) -> None:
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        status = error.error_status_hint
        text = _REFUSALS.get(status, b"This is not an HTTP/1.1 request this server can read\n")
        headers = [("content-length", str(len(text))), ("connection", "close")]
        head = h11.Response(status_code=status, reason=responses.get(status, ""), headers=headers)
        data = (self._http.send(head) or b"") + (self._http.send(h11.Data(data=text)) or b"")
        with trio.move_on_after(HEAD_TIMEOUT_S):
            await self._stream.send_all(data)

    async def _linger(self) -> None:
        """A socket that is closed with bytes unread takes the answer back."""
        if self._http.their_state is not h11.SEND_BODY or not isinstance(self._stream, trio.SocketStream):
            return
        taken = 0
        with trio.move_on_after(LINGER_S):
            await self._stream.send_eof()
            while taken < LINGER_BYTES and (data := await self._stream.receive_some(_RECEIVE_BYTES)):
                taken += len(data)


def _target(target: str) -> tuple[str, str]:
    """Path and query of a request's target. Raises RemoteProtocolError for what is no target.

    What begins with two slashes is a path, too: a proxy that keeps a path to itself must not see another one than we.
    """
    if target.startswith("/"):
        path, _, query = target.partition("?")
    else:
        try:
            parts = urlsplit(target)
        except ValueError as error:
            raise h11.RemoteProtocolError("the target is no URL") from error
        path, query = parts.path or "/", parts.query
    if "#" in target:
        raise h11.RemoteProtocolError("the target has a fragment")
    return path, query


def _has_no_body(request: Request) -> bool:
    return request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers
