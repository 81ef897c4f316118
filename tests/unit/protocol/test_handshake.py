"""The handshake: what comes first, who is let in, what an answer holds (wire.md sections 3 and 4)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import UNSET, Raw

from kora_daemon.errors import ProtocolError, SessionMisuse
from kora_daemon.protocol import actions as do
from kora_daemon.protocol import events as on
from kora_daemon.protocol import messages as say
from kora_daemon.protocol.delivery import LogPositions, LogSpan
from kora_daemon.protocol.moves import Phase
from kora_daemon.protocol.rules import SessionRules
from tests.support.operations import upload
from tests.support.rehearsal import SERVER, Rehearsal, handshake_of, of_kind, said

OTHER_MESSAGES = [
    upload(),
    say.Acknowledgment("m", "x", 0),
    say.ErrorMessage("m", "c", "t", False),
    say.AwarenessUpdate("m", 1, {"1": Raw(b"{}")}),
    say.DocumentUpdate("m", "todos", "r", "body", "AA=="),
    say.BlobRequest("m", "r", "h"),
    say.BlobResponse("m", "r", None),
    say.BlobPush("m", "h", "AA=="),
    on.Unknown("heartbeat"),
]


def error_and_close(actions: list[do.Action]) -> tuple[str, bool, int]:
    """Code, retriable and close code of the one error in front of the one close."""
    error, close = actions
    assert isinstance(error, do.Send)
    assert isinstance(error.message, say.ErrorMessage)
    assert isinstance(close, do.Close)
    return error.message.code, error.message.retriable, close.code


def test_a_handshake_is_authenticated_then_the_log_is_read_then_it_is_answered() -> None:
    stage = Rehearsal()
    asked = stage.take(handshake_of("node-a", auth_token="secret", version_vector={"node-a": 3, "node-b": 5}))
    assert asked == [do.Authenticate("secret", "node-a")]
    [read] = of_kind(do.ReadLog, stage.take(on.Authenticated("alice")))
    assert (read.node_id, read.known, read.watermark) == ("node-a", {"node-a": 3, "node-b": 5}, 0)
    assert read.view.unrestricted
    assert read.as_asked
    answer, joined, page = stage.take(on.LogRead(7, {"node-a": 3, "node-b": 9}))
    assert said([answer]) == [
        say.HandshakeResponse(
            "s-1",
            SERVER,
            {"node-a": 3, "node-b": 9},
            1,
            accepted=True,
            selected_wire_format="json",
            server_time=stage.wall_ms,
            server_max_delivery_sequence=7,
        )
    ]
    assert isinstance(joined, do.Joined)
    assert page == do.ReadPage(LogSpan(0, 7))
    assert stage.session.phase is Phase.SYNCING
    assert stage.session.user_id == "alice"


def test_the_session_streams_once_the_final_batch_of_the_download_is_out() -> None:
    stage = Rehearsal()
    stage.greet(frontier=0)
    [batch] = stage.show([])
    assert batch.is_final
    assert stage.session.phase is Phase.STREAMING


def test_a_client_of_the_old_generation_gets_a_delta_and_no_maximum() -> None:
    stage = Rehearsal()
    stage.take(handshake_of(version_vector={"node-b": 2}, last_delivery_sequence=None, delta_cursor="c"))
    [read] = of_kind(do.ReadLog, stage.take(on.Authenticated("")))
    assert (read.known, read.watermark, read.cursor) == ({"node-b": 2, "node-a": 0}, None, "c")
    actions = stage.take(on.LogRead(4, {}, [3, 4]))
    [response] = said(actions)
    assert isinstance(response, say.HandshakeResponse)
    assert response.server_max_delivery_sequence is UNSET
    assert of_kind(do.ReadPage, actions) == [do.ReadPage(LogPositions([3, 4]))]


@pytest.mark.parametrize("message", OTHER_MESSAGES, ids=lambda m: type(m).__name__)
def test_anything_before_the_handshake_ends_the_connection(message: on.AnyEvent) -> None:
    stage = Rehearsal()
    assert error_and_close(stage.take(message)) == ("HANDSHAKE_REQUIRED", False, do.PROTOCOL_VIOLATION)


def test_a_malformed_frame_before_the_handshake_is_called_malformed() -> None:
    stage = Rehearsal()
    actions = stage.take(on.Malformed(ProtocolError("no JSON")))
    assert error_and_close(actions) == ("MALFORMED_MESSAGE", False, do.PROTOCOL_VIOLATION)


def test_a_malformed_frame_in_a_session_ends_it() -> None:
    stage = Rehearsal()
    stage.greet()
    actions = stage.take(on.Malformed(ProtocolError("no JSON")))
    assert error_and_close(actions) == ("MALFORMED_MESSAGE", False, do.PROTOCOL_VIOLATION)


@pytest.mark.parametrize("message", [handshake_of(), *OTHER_MESSAGES], ids=lambda m: type(m).__name__)
def test_nothing_is_answered_behind_a_refusal(message: on.AnyEvent) -> None:
    stage = Rehearsal()
    stage.take(upload())
    assert stage.session.phase is Phase.CLOSED
    assert stage.take(message) == []
    assert stage.take(on.Malformed(ProtocolError("no JSON"))) == []


def test_late_answers_to_a_closed_session_are_dropped() -> None:
    stage = Rehearsal()
    stage.greet()
    stage.take(upload())
    stage.take(on.StoreFailed())
    for late in (on.Committed([]), on.StoreFailed(), on.FrontierMoved(3), on.Tick(), on.Draining()):
        assert stage.take(late) == []


def test_the_handshake_waits_for_its_answer_before_the_next_message_is_heard() -> None:
    stage = Rehearsal()
    assert stage.session.hears
    stage.take(handshake_of())
    assert not stage.session.hears
    with pytest.raises(SessionMisuse):
        stage.take(upload())
    stage.take(on.Authenticated(""))
    assert not stage.session.hears
    with pytest.raises(SessionMisuse):
        stage.take(upload())
    stage.take(on.LogRead(0, {}))
    assert stage.session.hears


def test_the_log_is_not_read_to_somebody_who_is_not_authenticated() -> None:
    stage = Rehearsal()
    stage.take(handshake_of())
    with pytest.raises(SessionMisuse):
        stage.take(on.LogRead(5, {}))
    assert said(stage.actions) == []


def test_nobody_is_authenticated_twice() -> None:
    stage = Rehearsal()
    stage.take(handshake_of())
    stage.take(on.Authenticated(""))
    with pytest.raises(SessionMisuse):
        stage.take(on.Authenticated("somebody else"))


def test_a_second_handshake_is_an_error_and_the_session_lives_on() -> None:
    stage = Rehearsal()
    stage.greet()
    [error] = said(stage.take(handshake_of("node-z")))
    assert isinstance(error, say.ErrorMessage)
    assert (error.code, error.retriable) == ("DUPLICATE_HANDSHAKE", False)
    assert stage.session.phase is Phase.SYNCING
    assert stage.session.node_id == "node-a"
    assert of_kind(do.Commit, stage.take(upload())) != []


def test_a_bad_token_is_told_before_the_close() -> None:
    stage = Rehearsal()
    stage.take(handshake_of())
    actions = stage.take(on.AuthenticationRefused())
    assert error_and_close(actions) == ("AUTH_FAILED", False, do.AUTHENTICATION_FAILED)
    assert stage.closes[0].reason == "authentication failed"


def test_a_provider_that_can_not_decide_is_no_bad_token() -> None:
    stage = Rehearsal()
    stage.take(handshake_of())
    actions = stage.take(on.AuthenticationUnavailable())
    assert error_and_close(actions) == ("AUTH_UNAVAILABLE", True, do.INTERNAL_ERROR)


def test_a_log_that_can_not_be_read_closes_without_a_word() -> None:
    stage = Rehearsal()
    stage.take(handshake_of())
    stage.take(on.Authenticated(""))
    assert stage.take(on.StoreFailed()) == [do.Close(do.INTERNAL_ERROR, "store unavailable")]


def test_a_full_server_says_so_before_any_handshake() -> None:
    stage = Rehearsal()
    actions = stage.session.refuse()
    assert error_and_close(actions) == ("MAX_CONNECTIONS", True, do.TOO_MANY_CONNECTIONS)
    assert of_kind(do.Close, actions)[0].reason == "max connections reached"
    assert stage.take(handshake_of()) == []


@pytest.mark.parametrize("version", [0, 1, 5, 2.5, 4.5, 1e300])
def test_a_schema_outside_the_range_is_refused_with_the_range(version: float) -> None:
    stage = Rehearsal(SessionRules(SERVER, schema_version=4, supported_schema_versions=(3, 4)))
    stage.take(handshake_of(schema_version=version))
    answer, close = stage.take(on.Authenticated(""))
    [response] = said([answer])
    assert isinstance(response, say.HandshakeResponse)
    assert not response.accepted
    assert isinstance(response.reject_reason, str)
    assert response.reject_reason.startswith("SCHEMA_MISMATCH")
    assert (response.supported_schema_min, response.supported_schema_max) == (3, 4)
    assert response.server_time == stage.wall_ms
    assert response.version_vector == {}
    assert close == do.Close(do.NORMAL, "schema version not supported")


@pytest.mark.parametrize("version", [3, 4])
def test_both_ends_of_the_schema_range_are_welcome(version: int) -> None:
    stage = Rehearsal(SessionRules(SERVER, schema_version=4, supported_schema_versions=(3, 4)))
    stage.take(handshake_of(schema_version=version))
    assert of_kind(do.ReadLog, stage.take(on.Authenticated(""))) != []


def test_the_schema_is_looked_at_only_for_those_who_are_known() -> None:
    stage = Rehearsal()
    stage.take(handshake_of(schema_version=99))
    assert error_and_close(stage.take(on.AuthenticationRefused()))[0] == "AUTH_FAILED"


def test_the_accepted_scope_is_the_one_asked_for() -> None:
    stage = Rehearsal()
    [response] = said(stage.greet(sync_scope={"todos": {"userId": "u"}, "notes": {}}))
    assert isinstance(response, say.HandshakeResponse)
    assert response.accepted_scope == {"todos": {"userId": "u"}, "notes": {}}


def test_without_a_handshake_in_time_the_connection_ends() -> None:
    stage = Rehearsal()
    due_ms = stage.session.due_ms
    assert due_ms == stage.elapsed_ms + 10_000
    stage.pass_time(9_999)
    assert stage.take(on.Tick()) == []
    stage.pass_time(1)
    assert stage.take(on.Tick()) == [do.Close(do.HANDSHAKE_TIMEOUT, "no handshake in time")]
    assert stage.session.due_ms is None


@pytest.mark.parametrize("node_id", ["", "x\ud800"])
def test_a_node_id_has_whole_characters(node_id: str) -> None:
    stage = Rehearsal()
    actions = stage.take(handshake_of(node_id))
    assert error_and_close(actions) == ("MALFORMED_MESSAGE", False, do.PROTOCOL_VIOLATION)


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("where", ["sync_scope", "sync_queries"])
def test_conditions_nested_beyond_reading_are_malformed(where: str) -> None:
    stage = Rehearsal()
    condition = {"a": nested(5_000)}
    asked: Any = {"todos": condition} if where == "sync_scope" else [{"collection": "todos", "where": condition}]
    actions = stage.take(handshake_of(**{where: asked}))
    assert error_and_close(actions) == ("MALFORMED_MESSAGE", False, do.PROTOCOL_VIOLATION)
