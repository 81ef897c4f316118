"""Live traffic that is not stored passes through a session as it is, once the handshake is done."""

from __future__ import annotations

import pytest
from msgspec import Raw

from kora_daemon.protocol import actions as do
from kora_daemon.protocol import events as on
from kora_daemon.protocol import messages as say
from kora_daemon.protocol.moves import Phase
from tests.support.rehearsal import Rehearsal

TRAFFIC = [
    say.AwarenessUpdate("m", 1, {"1": Raw(b"{}")}),
    say.DocumentUpdate("m", "todos", "r", "body", "AA=="),
    say.BlobRequest("m", "r", "h"),
    say.BlobResponse("m", "r", None),
    say.BlobPush("m", "h", "AA=="),
]


@pytest.mark.parametrize("message", TRAFFIC, ids=lambda message: type(message).__name__)
@pytest.mark.parametrize("phase", [Phase.SYNCING, Phase.STREAMING], ids=lambda phase: phase.name)
def test_it_is_shared_with_the_other_sessions(message: say.Message, phase: Phase) -> None:
    stage = Rehearsal()
    stage.greet()
    if phase is Phase.STREAMING:
        stage.show([])
    assert stage.session.phase is phase
    assert stage.take(message) == [do.Share(message)]


@pytest.mark.parametrize("message", [say.ErrorMessage("m", "C", "t", True), on.Unknown("heartbeat")])
def test_what_means_nothing_to_the_server_is_passed_over(message: on.AnyEvent) -> None:
    stage = Rehearsal()
    stage.greet()
    assert stage.take(message) == []
    assert stage.session.phase is Phase.SYNCING
