"""Server-sent events, taken apart as browsers do (WHATWG HTML, 9.2.6)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.support.http import HttpClient


@dataclass(frozen=True)
class Heard:
    """One event. `last_id` is what a browser would send as `Last-Event-ID` after it."""

    kind: str
    data: Any
    last_id: str


class EventSource:
    """Listens on a connection of its own."""

    def __init__(self, client: HttpClient) -> None:
        self._client = client
        self._text = ""
        self._last_id = ""
        self.retry_ms = 0

    async def open(self, target: str, **headers: str) -> EventSource:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await self._client.follow(target, {"accept": "text/event-stream", **named})
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        return self

    async def next(self) -> Heard:
        """The next event of any kind."""
        while True:
            fields = await self._block()
            self._last_id = fields.get("id", self._last_id)
            self.retry_ms = int(fields.get("retry", self.retry_ms))
            if "data" in fields:
                return Heard(fields.get("event", "message"), json.loads(fields["data"]), self._last_id)

    async def until(self, kind: str, /, **about: Any) -> Heard:
        """The next event of a kind whose data have these members."""
        while True:
            heard = await self.next()
            if heard.kind == kind and about.items() <= heard.data.items():
                return heard

    async def _block(self) -> dict[str, str]:
        while "\n\n" not in self._text:
            piece = await self._client.piece()
            assert piece, "the stream has ended"
            self._text += piece.decode()
        block, _, self._text = self._text.partition("\n\n")
        return dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
