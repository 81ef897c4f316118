"""A plain HTTP client that shows what is on the wire."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import h11
import trio

from tests.support.network import PATIENCE_S


@dataclass(frozen=True)
class Answer:
    """A response; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class HttpClient:
    """One connection. `ask` for well-formed requests, `say` for anything else."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT)

    async def say(self, data: bytes) -> None:
        """Send bytes as they are."""
        await self._stream.send_all(data)

    async def ask(
        self,
        target: str,
        method: str = "GET",
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        patience_s: float = PATIENCE_S,
    ) -> Answer:
        """A request and its answer."""
        if self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
        named = {"host": "localhost", **(headers or {})}
        if body:
            named["content-length"] = str(len(body))
        request = h11.Request(method=method, target=target, headers=list(named.items()))
        data = (self._http.send(request) or b"") + (self._http.send(h11.Data(data=body)) or b"")
        await self.say(data + (self._http.send(h11.EndOfMessage()) or b""))
        return await self._answer(patience_s)

    async def hear(self, method: str) -> Answer:
        """The answer to a request that was sent by `say`."""
        if self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
        self._http.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        self._http.send(h11.EndOfMessage())
        return await self._answer()

    async def follow(self, target: str, headers: dict[str, str] | None = None, method: str = "GET") -> Answer:
        """A request whose answer goes on: its head. What comes then, `piece` gives."""
        named = {"host": "localhost", **(headers or {})}
        await self.say(self._http.send(h11.Request(method=method, target=target, headers=list(named.items()))) or b"")
        await self.say(self._http.send(h11.EndOfMessage()) or b"")
        event = await self._next_event()
        assert isinstance(event, h11.Response)
        return Answer(event.status_code, {name.decode(): value.decode() for name, value in event.headers}, b"")

    async def piece(self) -> bytes:
        """What comes next of an answer that goes on, b"" at its end."""
        event = await self._next_event()
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    async def _next_event(self) -> object:
        with trio.fail_after(PATIENCE_S):
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(bytes(await self._stream.receive_some()))
        return event

    async def _answer(self, patience_s: float = PATIENCE_S) -> Answer:
        status, body = 0, b""
        headers: dict[str, str] = {}
        with trio.fail_after(patience_s):
            while True:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    self._http.receive_data(bytes(await self._stream.receive_some()))
                elif isinstance(event, h11.Response):
                    status = event.status_code
                    headers = {name.decode(): value.decode() for name, value in event.headers}
                elif isinstance(event, h11.Data):
                    body += event.data
                else:
                    assert isinstance(event, h11.EndOfMessage), event
                    return Answer(status, headers, body)

    async def some(self) -> bytes:
        """What comes next, however much of it."""
        with trio.fail_after(PATIENCE_S):
            return bytes(await self._stream.receive_some())

    async def rest(self) -> bytes:
        """Everything to come until the server closes, in whatever way."""
        data = bytearray()
        with trio.fail_after(PATIENCE_S), suppress(trio.BrokenResourceError):
            while chunk := await self._stream.receive_some():
                data += chunk
        return bytes(data)


@asynccontextmanager
async def http_client(
    port: int, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[HttpClient]:
    """A client on an open connection; gone at the end."""
    stream: trio.abc.Stream = await trio.open_tcp_stream(host, port)
    if tls is not None:
        stream = trio.SSLStream(stream, tls, server_hostname=host, https_compatible=True)
    async with stream:
        yield HttpClient(stream)
