"""Sessions as the relays know them, without a network."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

from kora_daemon.model.scope import ScopeMap
from kora_daemon.wire.formats import TEXT, SharedMessage

_numbers = count(1)


class FakePeer:
    """A session that notes what it is offered. `granted` is what it was granted, its scopes unless they are given."""

    def __init__(self, granted: ScopeMap | None = None, scopes: ScopeMap | None = None) -> None:
        self.number = next(_numbers)
        self.node_id = f"node {self.number}"
        self.user_id = f"user {self.number}"
        self.granted = granted
        self.scopes = granted if scopes is None else scopes
        self.heard: list[dict[str, Any]] = []
        self.reads = True
        self.quiet_until = 0.0

    def offer(self, message: SharedMessage) -> bool:
        if self.reads:
            self.heard.append(json.loads(message.frame(TEXT).payload))
        return self.reads

    def frontier_moved(self, frontier: int) -> None: ...

    def sweep(self) -> None: ...

    def drain(self) -> None: ...
