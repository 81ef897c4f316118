"""Recorded HTTP long-polling: request by request, and as the one session that the requests make up."""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.network import Client
from tests.support.polling import polling
from tests.support.recording import Line, Recording, Replay, load_recording


@dataclass(frozen=True)
class Exchange:
    """A request and its answer."""

    seq: int
    method: str
    target: str
    headers: dict[str, str]
    body: str
    status: int
    answer_headers: dict[str, str]
    answer: str

    @property
    def message_type(self) -> str:
        """Of the message in the answer."""
        return str(json.loads(self.answer)["type"]) if self.answer else ""


def _entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]


def load_exchanges(path: Path) -> list[Exchange]:
    """The requests of a recording, in the order in which they were sent."""
    entries = _entries(path)
    answers = {one["conn"]: one for one in entries if one.get("format") == "http-response"}
    return [
        Exchange(
            one["seq"],
            one["method"],
            one["path"],
            one["headers"],
            one.get("text", ""),
            answers[one["conn"]]["status"],
            answers[one["conn"]]["headers"],
            answers[one["conn"]].get("text", ""),
        )
        for one in entries
        if one.get("format") == "http-request"
    ]


def load_polled_recording(path: Path, now_ms: int) -> tuple[Recording, int]:
    """A recording in which one device polls. All its requests are one connection; the second result is its number."""
    recording, entries = load_recording(path, now_ms), _entries(path)
    first = next(one for one in entries if one.get("format") == "http-request")
    polled: int = first["conn"]
    lines: list[Line] = []
    for line, entry in zip(recording.lines, entries, strict=True):
        if entry is first:
            lines.append(Line(line.seq, True, polled, event="open"))
        elif not entry.get("format", "").startswith("http"):
            lines.append(line)
        elif line.text:
            lines.append(Line(line.seq, line.by_client, polled, line.text))
    recording.lines = lines
    return recording, polled


class PolledReplay(Replay):
    """Plays a recording in which the device of the connection `polled` polls."""

    polled: int = 0

    def _connect(self, connection: int) -> AbstractAsyncContextManager[Client]:
        return polling(self._url) if connection == self.polled else super()._connect(connection)
