"""Which session a request belongs to, without a server behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from kora_daemon.server import polling_sessions as module
from kora_daemon.server.luggage import Luggage, LuggageRoom
from kora_daemon.server.polling import PollingOptions, PollingTransport, SessionOver
from kora_daemon.server.polling_sessions import NoSession, PollingSessions
from kora_daemon.server.services import Origin
from kora_daemon.server.transport import Transport
from kora_daemon.wire.frame import Frame
from kora_daemon.wire.glimpse import glimpse
from tests.unit.server.test_polling import Session

ORIGIN = Origin("10.0.0.7")
HELLO, HELLO_AGAIN = (Frame(b'{"type":"handshake","messageId":"%s"}' % name) for name in (b"h1", b"h2"))


class Server:
    """Serves sessions as connections do. `refuses`: it closes them at once."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.polling_options = PollingOptions(max_sessions=3)
        self.is_over = False
        self.refuses = False
        self.wants_more = trio.Event()
        self.wants_more.set()
        self.heard: list[Frame] = []

    def luggage(self) -> Luggage:
        return Luggage(LuggageRoom())

    def adopt(self, transport: Transport, origin: Origin) -> None:
        assert origin == ORIGIN
        self._nursery.start_soon(self._serve, transport)

    async def _serve(self, transport: Transport) -> None:
        if not self.refuses:
            await transport.serve(Listening(self), self._nursery)
        await transport.close(4029 if self.refuses else 1011, "")


class Listening(Session):
    """Notes what it hears."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server

    async def ready(self) -> None:
        await self._server.wants_more.wait()

    def receive(self, frame: Frame) -> None:
        self._server.heard.append(frame)


async def playing(scene: Callable[[PollingSessions, Server], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        server = Server(nursery)
        await scene(PollingSessions(server), server)  # type: ignore[arg-type]
        nursery.cancel_scope.cancel()


async def shake_hands(sessions: PollingSessions, key: bytes, frame: Frame) -> PollingTransport:
    await sessions.take(key, ORIGIN, frame, glimpse(frame))
    return await sessions.of(key, ORIGIN)


async def over(session: PollingTransport) -> None:
    """The device hears that its session is over."""
    with pytest.raises(SessionOver):
        await session.fetch(0, None)


async def test_a_key_has_one_session(autojump_clock: MockClock) -> None:
    async def scene(sessions: PollingSessions, _server: Server) -> None:
        first = await sessions.of(b"a", ORIGIN)
        assert await sessions.of(b"a", ORIGIN) is first
        assert await sessions.of(b"b", ORIGIN) is not first
        assert await shake_hands(sessions, b"a", HELLO) is first
        assert await shake_hands(sessions, b"a", HELLO) is first

    await playing(scene)


async def test_another_handshake_begins_another_session(autojump_clock: MockClock) -> None:
    async def scene(sessions: PollingSessions, _server: Server) -> None:
        first = await shake_hands(sessions, b"a", HELLO)
        second = await shake_hands(sessions, b"a", HELLO_AGAIN)
        assert second is not first
        assert first.left.is_set()
        assert await sessions.of(b"a", ORIGIN) is second

    await playing(scene)


async def test_what_waits_in_a_session_that_another_handshake_ends_goes_on_to_the_next(
    autojump_clock: MockClock,
) -> None:
    upload = Frame(b'{"type":"operation-batch","messageId":"b","batchIndex":0,"isFinal":true}')

    async def scene(sessions: PollingSessions, server: Server) -> None:
        await shake_hands(sessions, b"a", HELLO)
        server.wants_more = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sessions.take, b"a", ORIGIN, upload, glimpse(upload))
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(sessions.take, b"a", ORIGIN, HELLO_AGAIN, glimpse(HELLO_AGAIN))
            await trio.testing.wait_all_tasks_blocked()
            server.wants_more.set()
        assert server.heard == [HELLO, HELLO_AGAIN, upload]

    await playing(scene)


async def test_the_end_is_heard_of_and_then_a_new_session_may_begin(autojump_clock: MockClock) -> None:
    async def scene(sessions: PollingSessions, _server: Server) -> None:
        first = await shake_hands(sessions, b"a", HELLO)
        await first.close(4001, "refused")
        for again in (True, False):
            assert await sessions.of(b"a", ORIGIN, again=again) is first
        await over(first)
        assert await sessions.of(b"a", ORIGIN) is first
        assert not first.succeeded.is_set()
        second = await sessions.of(b"a", ORIGIN, again=True)
        assert second is not first
        assert first.succeeded.is_set()

    await playing(scene)


async def test_a_handshake_does_not_wait_until_the_end_was_heard_of(autojump_clock: MockClock) -> None:
    async def scene(sessions: PollingSessions, _server: Server) -> None:
        first = await shake_hands(sessions, b"a", HELLO)
        await first.close(1001, "")
        assert await shake_hands(sessions, b"a", HELLO_AGAIN) is not first

    await playing(scene)


async def test_an_end_is_remembered_for_a_while(autojump_clock: MockClock) -> None:
    async def scene(sessions: PollingSessions, _server: Server) -> None:
        first = await sessions.of(b"a", ORIGIN)
        await first.close(1001, "")
        await trio.sleep(module.REMEMBERED_S - 1)
        assert await sessions.of(b"a", ORIGIN) is first
        await trio.sleep(2)
        assert await sessions.of(b"a", ORIGIN) is not first

    await playing(scene)


async def test_who_vanished_is_not_remembered(autojump_clock: MockClock) -> None:
    async def scene(sessions: PollingSessions, server: Server) -> None:
        first = await sessions.of(b"a", ORIGIN)
        await trio.sleep(server.polling_options.idle_s + 1)
        assert first.left.is_set()
        assert await sessions.of(b"a", ORIGIN) is not first

    await playing(scene)


async def test_a_request_that_meets_a_vanishing_session_gets_a_new_one(autojump_clock: MockClock) -> None:
    async def scene(sessions: PollingSessions, _server: Server) -> None:
        first = await sessions.of(b"a", ORIGIN)
        first.vanish()
        assert await sessions.of(b"a", ORIGIN) is not first

    await playing(scene)


async def test_of_ends_as_of_sessions_there_are_only_so_many(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_REMEMBERED", 2)

    async def scene(sessions: PollingSessions, server: Server) -> None:
        server.refuses = True
        ended = []
        for number in range(3):
            ended.append(await sessions.of(bytes([number]), ORIGIN))
            await ended[-1].left.wait()
        server.refuses = False
        assert await sessions.of(bytes([1]), ORIGIN) is ended[1]
        for number in (0, 3, 4):
            assert await sessions.of(bytes([number]), ORIGIN) not in ended
        with pytest.raises(NoSession):
            await sessions.of(bytes([5]), ORIGIN)
        with pytest.raises(NoSession):
            await shake_hands(sessions, bytes([5]), HELLO)

    await playing(scene)


async def test_a_server_that_has_stopped_begins_no_session(autojump_clock: MockClock) -> None:
    async def scene(sessions: PollingSessions, server: Server) -> None:
        server.is_over = True
        with pytest.raises(NoSession, match="shutting down"):
            await sessions.of(b"key", ORIGIN)

    await playing(scene)
