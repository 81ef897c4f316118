"""Recorded traffic of the stock client with the reference server: its clients played again, its server expected."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from tests.support.network import PATIENCE_S, Client, Closed, connected
from tests.support.protobuf import to_binary

_STREAMS = {
    "operation-batch": "delivery",
    "awareness-update": "live",
    "yjs-doc-update": "live",
    "blob-chunk-request": "live",
    "blob-chunk-response": "live",
}
_WALL_TIME = re.compile(r'("wallTime":)(\d+)')
_DELIVERY_SEQUENCE = re.compile(r'("deliverySequence":)(\d+)')


class Text(str):
    """Stands in an expected message for any text that matches the pattern."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        # As plain text: `re` keeps patterns in a dict, and looking one like this up there would ask here again.
        return isinstance(other, str) and re.fullmatch(str(self), other) is not None

    def __ne__(self, other: object) -> bool:
        return not self == other


class Near(int):
    """Stands in an expected message for a time, ms since the epoch, within a minute of this one."""

    __slots__ = ()
    __hash__ = int.__hash__

    def __eq__(self, other: object) -> bool:
        return type(other) is int and abs(int(self) - other) < 60_000

    def __ne__(self, other: object) -> bool:
        return not self == other


@dataclass(frozen=True)
class Line:
    """One thing that the proxy saw: a frame (`text`), or an `event` ("open", "close" with its `code`).

    Of a `binary` frame the text is what was decoded from it.
    What was done to the server itself is an `event`, too, with particulars in `text`, and counts as the clients'.
    """

    seq: int
    by_client: bool
    connection: int
    text: str = ""
    event: str = ""
    code: int = 0
    binary: bool = False


@dataclass
class Heard:
    """A message of the server. `stream` names what it is in order with: answers, deliveries and live traffic of one
    connection are three streams, and how they interleave differs from run to run."""

    seq: int
    connection: int
    message: dict[str, Any]
    ids: dict[str, Any] = field(default_factory=dict)
    """The ids in it, as recorded."""
    binary: bool = False

    @property
    def stream(self) -> tuple[int, str]:
        return self.connection, _STREAMS.get(self.message["type"], "answers")


@dataclass
class Recording:
    """A recording with its times moved, so that the moment it began is `now_ms`."""

    name: str
    lines: list[Line]
    operations_before: dict[str, int] = field(default_factory=dict)
    """Node id -> how many operations of it the server's log held before the recording began."""

    @property
    def uploads(self) -> Iterator[dict[str, Any]]:
        """The operations that clients sent."""
        for line in self.lines:
            if line.by_client and '"operation-batch"' in line.text:
                yield from json.loads(line.text)["operations"]


def load_recording(path: Path, now_ms: int) -> Recording:
    """Read a recording; past stays past, and ten minutes in the future stay that."""
    raw = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    for entry in raw:
        if entry.get("format") == "binary":
            entry["text"] = json.dumps(entry["decoded"], ensure_ascii=False, separators=(",", ":"))
    hello = next(entry for entry in raw if '"serverTime"' in entry.get("text", ""))
    response = json.loads(hello["text"])
    offset_ms = now_ms - (response["serverTime"] - hello["t_ms"])
    lines = [
        Line(
            entry["seq"],
            entry["from"] != "server",
            entry["conn"],
            _WALL_TIME.sub(lambda match: f"{match[1]}{int(match[2]) + offset_ms}", entry.get("text", "")),
            entry.get("event", ""),
            entry.get("code", 0),
            entry.get("format") == "binary",
        )
        for entry in raw
    ]
    return Recording(path.stem, lines, dict(response["versionVector"]))


@dataclass
class Script:
    """What a server has to say while the clients of a recording are played."""

    recording: Recording
    heard: list[Heard]
    closes: dict[int, tuple[int, int]]
    """Connection -> (the line after which the server closes it, close code)."""

    @classmethod
    def of(cls, recording: Recording, server_node_id: str, now_ms: int) -> Script:
        """The script as recorded, but for what differs from run to run."""
        servers = [line for line in recording.lines if not line.by_client]
        heard = [
            Heard(line.seq, line.connection, json.loads(line.text), binary=line.binary)
            for line in servers
            if not line.event
        ]
        for one in heard:
            one.ids = {name: one.message.get(name) for name in ("messageId", "requestId")}
            if one.message["type"] == "handshake-response":
                one.message |= {"nodeId": server_node_id, "serverTime": Near(now_ms)}
        return cls(recording, heard, {line.connection: (line.seq, line.code) for line in servers if line.event})

    def close(self, connection: int, behind: int, code: int) -> None:
        """The server closes a connection behind a line, and says nothing on it afterwards."""
        self.heard = [one for one in self.heard if one.connection != connection or one.seq <= behind]
        self.closes[connection] = (behind, code)

    def add(self, seq: int, connection: int, message: dict[str, Any]) -> None:
        """The server says this behind a line."""
        self.heard.append(Heard(seq, connection, {"messageId": "-", **message}))

    def drop(self, *seqs: int) -> None:
        """The server does not say these."""
        missing = set(seqs) - {one.seq for one in self.heard}
        assert not missing, f"nothing was heard in lines {missing}"
        self.heard = [one for one in self.heard if one.seq not in seqs]

    def of_type(self, *kinds: str) -> Iterator[Heard]:
        """The messages of these types."""
        return (one for one in self.heard if one.message["type"] in kinds)

    def said_by_clients(self, connection: int, kind: str) -> Iterator[dict[str, Any]]:
        """The messages of a type that a client said on a connection."""
        for line in self.recording.lines:
            if line.by_client and line.connection == connection and f'"type":"{kind}"' in line.text:
                yield json.loads(line.text)


def comparable(heard: list[Heard]) -> dict[tuple[int, str], list[dict[str, Any]]]:
    """What was heard, by stream. Message ids differ from run to run; the order of members in data does not."""
    streams: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for one in heard:
        message = deepcopy(one.message)
        assert message.pop("messageId"), f"a message without an id: {message}"
        message["frame"] = "binary" if one.binary else "text"
        for operation in message.get("operations", ()):
            operation["data"], operation["previousData"] = (
                json.dumps(operation[name], ensure_ascii=False) for name in ("data", "previousData")
            )
        streams.setdefault(one.stream, []).append(message)
    return streams


class Replay:
    """Plays the clients of a recording in the order recorded, each line when all before it was heard.

    With a `bystander`, a client that is in sync, nobody connects before what is to be remembered of devices is written:
    that is done behind their backs.
    """

    def __init__(self, script: Script, url: str, bystander: Client | None = None) -> None:
        self._script = script
        self._url = url
        self._bystander = bystander
        self._clients: dict[int, Client] = {}
        self._left: set[int] = set()
        self._news = trio.Event()
        self.heard: list[Heard] = []
        self.closes: dict[int, int] = {}
        """Connection -> code, of those that the server closed."""

    async def run(self) -> None:
        """Play all; returns when every connection is closed. Raises AssertionError when the server stays silent."""
        async with trio.open_nursery() as nursery:
            for line in self._script.recording.lines:
                await self._hear_all_before(line.seq)
                if line.by_client:
                    await self._perform(line, nursery)
            await self._hear_all_before(len(self._script.recording.lines) + 1)
            for connection in self._clients:
                await self._leave(connection)

    async def _perform(self, line: Line, nursery: trio.Nursery) -> None:
        if line.event == "open":
            await self._all_is_written()
            await nursery.start(self._listen, line.connection)
        elif line.connection in self.closes:
            return
        elif line.event == "close":
            await self._leave(line.connection)
        else:
            text = self._reworded(line)
            if text is not None:
                client = self._clients[line.connection]
                await client.say_text(to_binary(json.loads(text)) if line.binary else text)
                await client.was_heard()

    async def _all_is_written(self) -> None:
        if self._bystander is not None:
            message_id = await self._bystander.upload()
            while (await self._bystander.hear()).get("acknowledgedMessageId") != message_id:
                pass

    async def _listen(self, connection: int, task_status: trio.TaskStatus[None]) -> None:
        async with self._connect(connection) as client:
            self._clients[connection] = client
            task_status.started()
            try:
                async for message in client.messages():
                    self.heard.append(Heard(0, connection, message, binary=client.heard_binary))
                    self._news.set()
            except Closed as closed:
                if connection not in self._left:
                    self.closes[connection] = closed.code
                    self._news.set()

    def _connect(self, connection: int) -> AbstractAsyncContextManager[Client]:
        """How the device of this connection connects."""
        del connection
        return connected(self._url)

    async def _leave(self, connection: int) -> None:
        if connection not in self.closes:
            self._left.add(connection)
            await self._clients[connection].go()

    async def _hear_all_before(self, seq: int) -> None:
        with trio.move_on_after(PATIENCE_S):
            while self._missing(seq):
                self._news = trio.Event()
                await self._news.wait()
        missing = self._missing(seq)
        assert not missing, f"before line {seq}: not heard: {missing}, but {comparable(self.heard)} {self.closes}"

    def _missing(self, seq: int) -> list[str]:
        expected = Counter(one.stream for one in self._script.heard if one.seq < seq)
        streams = expected - Counter(one.stream for one in self.heard)
        closes = [c for c, (at, _) in self._script.closes.items() if at < seq and c not in self.closes]
        return [f"{count} of {stream}" for stream, count in streams.items()] + [f"the close of {c}" for c in closes]

    def _reworded(self, line: Line) -> str | None:
        """The recorded frame with our server's ids in it; None for an answer to what our server did not say."""
        if not line.text.startswith("{"):
            return line.text
        message = json.loads(line.text)
        for member, named in (("acknowledgedMessageId", "messageId"), ("requestId", "requestId")):
            if member not in message or message["type"] not in ("acknowledgment", "blob-chunk-response"):
                continue
            pair = self._counterpart(line.connection, named, message[member])
            if pair is None:
                return None
            expected, actual = pair
            text = line.text.replace(message[member], actual[named])
            # A batch that our server cuts differently is acknowledged as it came.
            return _DELIVERY_SEQUENCE.sub(rf"\g<1>{expected.get('maxDeliverySequence')}", text)
        return line.text

    def _counterpart(self, connection: int, member: str, value: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The expected message of a connection with this member, and ours at its place."""
        for one in self._script.heard:
            if one.connection == connection and one.ids.get(member) == value:
                place = [other for other in self._script.heard if other.stream == one.stream].index(one)
                return one.message, [heard for heard in self.heard if heard.stream == one.stream][place].message
        return None
