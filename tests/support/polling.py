"""A device that polls over HTTP, as the stock client does."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import trio

from tests.support.http import Answer, HttpClient
from tests.support.network import PATIENCE_S, Client, Closed

ACCEPT = "application/json, application/x-protobuf"
_first_numbers = count(0, 1_000_000)
"""Ids of messages are unique within a process, as the stock client's are."""


class Requests:
    """Requests to one URL, each over a connection that no other uses at the time."""

    def __init__(self, url: str, token: str | None = None, headers: dict[str, str] | None = None) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self.target = f"{parts.path or '/'}?{parts.query}"
        self.headers = {"accept": ACCEPT, **(headers or {})}
        if token is not None:
            self.headers["authorization"] = f"Bearer {token}"
        self._idle: list[tuple[trio.SocketStream, HttpClient]] = []

    async def ask(self, method: str, body: bytes = b"", **headers: str) -> Answer:
        """A request and its answer, however long it is held."""
        stream, client = self._idle.pop() if self._idle else await self._open()
        try:
            answer = await client.ask(self.target, method, body, {**self.headers, **headers}, patience_s=60)
        except BaseException:
            stream.socket.close()
            raise
        if answer.headers.get("connection") == "close":
            await stream.aclose()
        else:
            self._idle.append((stream, client))
        return answer

    async def get(self, known: str | None = None) -> Answer:
        """A poll."""
        return await self.ask("GET", **({} if known is None else {"if-none-match": known}))

    async def post(self, message: str | bytes) -> Answer:
        """One message."""
        binary = isinstance(message, bytes)
        kind = "application/x-protobuf" if binary else "application/json"
        body = message if isinstance(message, bytes) else message.encode()
        return await self.ask("POST", body, **{"content-type": kind})

    async def _open(self) -> tuple[trio.SocketStream, HttpClient]:
        stream = await trio.open_tcp_stream(self._host, self._port)
        return stream, HttpClient(stream)

    def close(self) -> None:
        """Close the connections that are idle."""
        for stream, _ in self._idle:
            stream.socket.close()
        self._idle.clear()


def closed_as_told(answer: Answer) -> Closed:
    """What an answer says of a session that is over."""
    told = re.search(rb"\((\d{4}) ?([^)]*)\)", answer.body)
    return Closed(int(told[1]), told[2].decode()) if told else Closed(answer.status, answer.body.decode())


class PollingClient(Client):
    """The same peer over HTTP: it polls all the time, and each message is a request of its own."""

    def __init__(self, requests: Requests, pause_s: float, binary: bool = False) -> None:
        self.requests = requests
        self.binary, self.heard_binary = binary, False
        self._pause_s = pause_s
        self._has_uploaded = False
        self._polling = trio.CancelScope()
        self._messages = next(_first_numbers)
        self._put, self._take = trio.open_memory_channel[str | bytes | Closed](1_000)

    async def poll(self) -> None:
        """Poll until the session is over."""
        with self._polling:
            while True:
                answer = await self.requests.get()
                if answer.status == 200:
                    binary = answer.headers["content-type"] == "application/x-protobuf"
                    await self._put.send(answer.body if binary else answer.body.decode())
                elif answer.status == 204:
                    await trio.sleep(self._pause_s)
                else:
                    await self._put.send(closed_as_told(answer))
                    return

    async def say(self, message: dict[str, Any]) -> str:
        if message["type"] == "handshake":
            self._has_uploaded = False
        elif message["type"] == "operation-batch" and not self._has_uploaded and not self.binary:
            # What was written while it was away: it says how much that is.
            self._has_uploaded = message["isFinal"]
            message = {"totalBatches": 1, **message}
        return await super().say(message)

    async def shake_hands(self, node_id: str = "node-a", watermark: int | None = 0, **members: Any) -> dict[str, Any]:
        """The same, and what it wrote while it was away: nothing, which it says."""
        response = await super().shake_hands(node_id, watermark, **members)
        if response.get("accepted"):
            await self.upload()
        return response

    async def say_text(self, text: str | bytes) -> None:
        await self.requests.post(text)

    async def was_heard(self) -> None:
        """What is answered was handed in."""

    async def _next_frame(self) -> str | bytes:
        with trio.fail_after(PATIENCE_S):
            return await self._next()

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        while True:
            yield self._read(await self._next())

    async def _next(self) -> str | bytes:
        heard = await self._take.receive()
        if isinstance(heard, Closed):
            raise heard
        return heard

    async def hears_nothing(self, seconds: float = 0.2) -> bool:
        with trio.move_on_after(seconds):
            await self._next()
            return False
        return True

    async def go(self) -> None:
        """Ask for nothing any more, which is all that a device says that goes."""
        self._polling.cancel()
        await self._put.send(Closed(1000, ""))


@asynccontextmanager
async def polling(
    url: str, client_id: str = "client-1", token: str | None = None, binary: bool = False
) -> AsyncIterator[PollingClient]:
    """A device that polls; gone at the end."""
    parts = urlsplit(url)
    requests = Requests(f"http://{parts.netloc}{parts.path}?clientId={client_id}", token)
    client = PollingClient(requests, 0.001, binary)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.poll)
        try:
            yield client
        finally:
            nursery.cancel_scope.cancel()
    requests.close()
