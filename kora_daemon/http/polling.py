"""HTTP long-polling: the requests of devices that can't open a WebSocket (wire.md section 11).

POST brings one message, GET fetches the oldest one that waits, or waits for one itself.
"""

from __future__ import annotations

import trio
from msgspec.structs import replace

from kora_daemon.http.connection import COME_AGAIN_S
from kora_daemon.http.credentials import Credentials, read_credentials, require_same_token
from kora_daemon.http.messages import Body, HttpError, Request, Response, text_response
from kora_daemon.http.origins import Origins
from kora_daemon.server.intake import TooMuchAtOnce
from kora_daemon.server.polling import PollingTransport, SessionOver
from kora_daemon.server.polling_sessions import NoSession, PollingSessions
from kora_daemon.server.services import Origin
from kora_daemon.wire.frame import Frame
from kora_daemon.wire.glimpse import glimpse

JSON, PROTOBUF = "application/json", "application/x-protobuf"
METHODS = "GET, POST"
_TOO_BIG, _BAD_TEXT = 1009, 1007


class PollingEndpoint:
    """Answers the plain requests of the sync path."""

    def __init__(self, sessions: PollingSessions, origins: Origins) -> None:
        self._sessions = sessions
        self._origins = origins

    async def answer(self, request: Request) -> Response:
        """The answer to any request. Raises HttpError where no session has a say in it."""
        headers = self._origins.answer(request)
        try:
            response = await self._answer(request)
        except HttpError as error:
            response = text_response(error.status, str(error), **error.headers)
        return replace(response, headers=(*response.headers, *headers))

    async def _answer(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return self._origins.preflight()
        if request.wants_upgrade or "sec-websocket-key" in request.headers:
            # Or wanted one: a proxy in between has taken the rest away.
            text = "This is a Kora sync endpoint: a WebSocket has to arrive as one (RFC 6455, version 13)"
            return text_response(
                426, text, upgrade="websocket", connection="Upgrade", **{"sec-websocket-version": "13"}
            )
        if request.method not in METHODS.split(", "):
            raise HttpError(405, f"{request.method} is not possible here", allow=METHODS)
        credentials = read_credentials(request)
        origin = Origin(request.address, request.first("token"))
        try:
            if request.method == "GET":
                return await self._fetch(request, credentials, origin)
            return await self._bring(request, credentials, origin)
        except SessionOver as over:
            return text_response(410, f"This session is over ({over}): begin another one with a handshake")
        except NoSession as none:
            raise HttpError(503, str(none), **{"retry-after": str(COME_AGAIN_S)}) from None
        except TooMuchAtOnce:
            raise HttpError(429, "Too many messages of this device wait for each other") from None

    async def _fetch(self, request: Request, credentials: Credentials, origin: Origin) -> Response:
        hold_s = self._sessions.options.hold_s
        session = await self._sessions.of(credentials.key, origin)
        if session.was_told:
            # Either it has not understood, or its next handshake is on its way.
            with trio.move_on_after(hold_s):
                await session.succeeded.wait()
            session = await self._sessions.of(credentials.key, origin)
        known = request.headers.get("if-none-match")
        with session.visit():
            message = await session.fetch(hold_s, known)
        if message is None:
            return Response(204, content_type="")
        if message.etag == known:
            return Response(304, content_type="", headers=(("etag", message.etag),))
        frame = message.frame
        return Response(
            200,
            frame.payload,
            PROTOBUF if frame.binary else JSON,
            (("etag", message.etag),),
            sent=session.fetched,
            lost=session.fetch_failed,
        )

    async def _bring(self, request: Request, credentials: Credentials, origin: Origin) -> Response:
        binary = _is_binary(request)
        session = await self._sessions.of(credentials.key, origin, again=True)
        if session.left.is_set():
            session.check_open()
        size = request.body.size_bytes
        with session.visit():
            async with session.intake.room_for(session.intake.limit_bytes if size is None else size):
                frame = Frame(await _payload(request.body, session, binary=binary), binary)
                message = glimpse(frame)
                if message is not None and message.is_handshake:
                    require_same_token(credentials, message.auth_token)
                await self._sessions.take(credentials.key, origin, frame, message)
        return Response(202, content_type="")


async def _payload(body: Body, session: PollingTransport, *, binary: bool) -> bytes:
    """The body of a POST. When it does not come whole and good, the session is over: what was in it is lost."""
    whole = bytearray()
    with session.intake.coming_in():
        if (body.size_bytes or 0) > session.intake.limit_bytes:
            raise _too_big(session)
        async for chunk in body.chunks():
            whole += chunk
            if len(whole) > session.intake.limit_bytes:
                raise _too_big(session)
            if not session.may_bring(len(chunk)):
                text = "There is too much of devices that are not signed in"
                raise HttpError(503, text, **{"retry-after": str(COME_AGAIN_S)})
            # One that is just closing may be in the way of a handshake that begins the next one.
            if session.left.is_set() and not session.has_vanished:
                session.check_open()
        if not binary:
            try:
                whole.decode()
            except UnicodeDecodeError:
                session.fail("a text message is UTF-8", _BAD_TEXT)
                raise HttpError(400, f"A message of type {JSON} is UTF-8") from None
    if not whole:
        raise HttpError(400, "A POST brings a message in its body")
    return bytes(whole)


def _too_big(session: PollingTransport) -> HttpError:
    text = f"a message has at most {session.intake.limit_bytes} bytes"
    session.fail(text, _TOO_BIG)
    return HttpError(413, text.capitalize())


def _is_binary(request: Request) -> bool:
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in (JSON, PROTOBUF):
        raise HttpError(415, f"A message is of type {JSON} or {PROTOBUF}")
    return given == PROTOBUF
