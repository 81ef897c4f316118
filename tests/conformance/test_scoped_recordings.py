"""The stock client with this server under scopes that auth gives: recorded once, its side played again ever since.

Nothing that the server says may differ from what led the client to the right records. `data/scoped/README.md` says what
happens in each of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from kora_daemon.apply.pipeline import ApplyRules
from kora_daemon.auth.contract import AuthContext, Standing
from kora_daemon.protocol import arrears
from kora_daemon.protocol.rules import AcceptedScope
from kora_daemon.server import rechecks
from kora_daemon.server.identification import AuthRules
from kora_daemon.server.options import ServerOptions
from tests.support.devices import wall_ms
from tests.support.network import Client, connected, running_server
from tests.support.recording import Line, Replay, Script, comparable, load_recording
from tests.support.records import schema_of
from tests.support.scoped import Users
from tests.support.stores import RECORD_STORES

DATA = Path(__file__).parent / "data" / "scoped"
SCHEMA = schema_of(1, todos={"title": "string", "userId": "string", "completed": "boolean", "position": "number"})
TOLD: dict[str, AcceptedScope] = {"full": "full", "collections": "collections", "none": "none"}
NAMES = sorted(path.stem for path in DATA.glob("*.jsonl"))
ASKED = 3
"""The connection of `refused-none` in which the client is asked for what was refused."""


class LiveUsers(Users):
    """Users whose live sessions notice what they are granted."""

    async def revalidate(self, contexts: Sequence[AuthContext]) -> list[Standing]:
        return [self.contexts[context.user_id] for context in contexts]


class ScopedReplay(Replay):
    """Plays the one who grants scopes, too."""

    def __init__(
        self, script: Script, url: str, users: Users, bystander: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        super().__init__(script, url, bystander)
        self._users = users
        self._monkeypatch = monkeypatch

    async def _perform(self, line: Line, nursery: trio.Nursery) -> None:
        if (line.event, line.connection) == ("open", ASKED):
            # The recorded server settled this at once, and in no other session.
            self._monkeypatch.setattr(arrears, "HEARD_MS", 0)
        if line.event == "grant":
            granted = json.loads(line.text)
            self._users.grant(granted["user"], granted["scopes"])
        else:
            await super()._perform(line, nursery)


def told(name: str) -> AcceptedScope:
    """What the recorded server told clients of their scopes."""
    return TOLD[name.rsplit("-", 1)[1]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rechecks, "TICK_S", 0.02)


@pytest.mark.parametrize("kind", list(RECORD_STORES))
@pytest.mark.parametrize("name", NAMES)
async def test_the_server_says_what_was_recorded(
    name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ms = wall_ms()
    store = RECORD_STORES[kind](tmp_path)
    store.open()
    script = Script.of(load_recording(DATA / f"{name}.jsonl", now_ms), store.node_id, now_ms)
    for response in script.of_type("handshake-response"):
        # Recorded before this server spoke protobuf. A client of `createApp` offers it, and stays with text.
        response.message["selectedWireFormat"] = "protobuf"
    users = LiveUsers()
    options = ServerOptions(
        apply=ApplyRules(SCHEMA.with_scopes({"todos": ["userId", "completed"]}), moves_history=told(name) != "full"),
        auth=AuthRules(revalidate=0.05, shared_data=True),
        accepted_scope=told(name),
    )
    users.grant("bystander", {})
    async with running_server(store, users, options) as host, connected(host.url) as bystander:
        await bystander.shake_hands("bystander", authToken="bystander")
        await bystander.download()
        replay = ScopedReplay(script, host.url, users, bystander, monkeypatch)
        await replay.run()
    assert comparable(replay.heard) == comparable(script.heard)
    assert replay.closes == {connection: code for connection, (_, code) in script.closes.items()}


def test_every_recording_is_explained() -> None:
    explained = re.findall(r"^\| `([\w-]+)`", (DATA / "README.md").read_text(), re.MULTILINE)
    assert sorted(explained) == NAMES
