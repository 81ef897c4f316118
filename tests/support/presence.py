"""A device in a room: what a stock client makes of presence."""

from __future__ import annotations

import json
from typing import Any

from msgspec import Raw

from kora_daemon.server.awareness import AwarenessRelay
from kora_daemon.wire.formats import TEXT, SharedMessage
from kora_daemon.wire.frame import Frame

ANN: dict[str, Any] = {"user": {"name": "Ann", "color": "#a00"}}
BOB: dict[str, Any] = {"user": {"name": "Bob", "color": "#0b0"}}
CLEO: dict[str, Any] = {"user": {"name": "Cleo", "color": "#00c"}}


class Device:
    """A client in a room, which numbers itself `own_id` and knows the others by what it hears."""

    numbers = iter(range(1, 1_000_000))

    def __init__(self, relay: AwarenessRelay, own_id: int) -> None:
        self.relay = relay
        self.client = next(self.numbers)
        self.own_id = own_id
        self.heard: list[dict[str, Any]] = []
        self.frames: list[Frame] = []
        self.others: dict[int, Any] = {}

    def join(self) -> Device:
        self.relay.add_client(self.client, self.own_id, self.hear)
        return self

    def hear(self, shared: SharedMessage) -> None:
        """What a stock client does: states under its own number are its own echo."""
        frame = shared.frame(TEXT)
        message = json.loads(frame.payload)
        assert message["type"] == "awareness-update"
        self.frames.append(frame)
        self.heard.append(message)
        for name, state in message["states"].items():
            if int(name) == self.own_id:
                continue
            if state is None:
                self.others.pop(int(name), None)
            else:
                self.others[int(name)] = state

    def say(self, state: Any) -> bool:
        return self.relay.handle_update(self.client, self.own_id, {str(self.own_id): raw(state)})

    def leave(self) -> None:
        self.relay.remove_client(self.client)

    @property
    def sees(self) -> list[str]:
        return sorted(state["user"]["name"] for state in self.others.values())


def raw(state: Any) -> Raw:
    return Raw(json.dumps(state).encode())
