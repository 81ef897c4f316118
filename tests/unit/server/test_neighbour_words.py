"""What daemons tell each other of presence: what has changed, and no more."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing
from msgspec import Raw

from kora_daemon.server import neighbours as module
from kora_daemon.server.hub import Hub
from kora_daemon.server.neighbours import Neighbours
from kora_daemon.server.readers import Readers
from kora_daemon.server.side_channels import SideChannels
from kora_daemon.store.memory import MemoryStore
from tests.support.peers import FakePeer


class Wire:
    """A channel nobody else is on, which notes what is said."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []
        self._ends = socket.socketpair()

    def open(self) -> None: ...

    def close(self) -> None:
        for end in self._ends:
            end.close()

    def fileno(self) -> int:
        return self._ends[0].fileno()

    def drain(self) -> tuple[int | None, list[bytes]]:
        return None, []

    def send(self, word: bytes) -> None:
        self.said.append(json.loads(word))


class Scene:
    def __init__(self) -> None:
        hub = Hub(0)
        self.side = SideChannels(hub, Readers(MemoryStore()), 16_384, ())
        self.wire = Wire()
        self.neighbours = Neighbours(self.wire, self.side, hub.reaches)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.side.run)
        nursery.start_soon(made.neighbours.speak)
        yield made
        nursery.cancel_scope.cancel()
    made.wire.close()


async def news(scene: Scene, seconds: float = 0.2) -> list[dict[str, Any]]:
    """The changes that are told within a while."""
    scene.wire.said.clear()
    await trio.sleep(seconds)
    return [word["here"] for word in scene.wire.said if not word.get("whole") and word.get("here")]


async def test_a_state_that_is_repeated_here_is_not_told_again(scene: Scene) -> None:
    peer, state = FakePeer(), Raw(b'{"user":{}}')
    number = str(peer.number)
    for _ in range(3):
        scene.side.awareness.update(peer, 1, {"1": state})
        assert await news(scene) in ([{number: ["", {"user": {}}]}], [])
    scene.side.awareness.update(peer, 1, {"1": state})
    assert await news(scene) == []
    scene.side.awareness.remove(peer.number)
    assert await news(scene) == [{number: ["", None]}]


async def test_everything_is_told_from_time_to_time(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WHOLE_INTERVAL_S", 0.05)
    peer = FakePeer({"notes": {"ownerId": "ali"}})
    scene.side.awareness.update(peer, 1, {"1": Raw(b"{}")})
    await trio.sleep(0.2)
    await news(scene)
    whole = [word for word in scene.wire.said if word.get("whole")]
    assert whole
    ((room, state),) = whole[-1]["here"].values()
    assert (len(room), state) == (32, {})


async def test_a_word_that_is_nested_too_deeply_to_be_read_is_passed_over(scene: Scene) -> None:
    """How deep is too deep depends on the stack: what one daemon took of a client another may not."""
    deep = b'{"speaker":"other","version":%d,"here":{"1":["",%s]}}' % (module.VERSION, b"[" * 5_000 + b"]" * 5_000)
    plain = b'{"speaker":"other","version":%d,"here":{"2":["",{}]}}' % module.VERSION
    scene.neighbours._take(None, [deep, plain])
    assert len(scene.side.awareness.unrestricted) == 1
