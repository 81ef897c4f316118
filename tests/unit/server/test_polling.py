"""The transport of a device that polls, without requests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs
from trio.testing import MockClock

from kora_daemon.server import polling as module
from kora_daemon.server.polling import PollingOptions, PollingTransport, SessionOver, Waiting
from kora_daemon.wire.frame import Frame

OPTIONS = PollingOptions(hold_s=25, idle_s=120, max_buffered_bytes=100, max_message_bytes=5 << 20)


class Session:
    """What a connection makes of it: it closes when it is told that there is too much unread."""

    def __init__(self) -> None:
        self.is_open = self.has_overflowed = False

    def opened(self) -> None:
        self.is_open = True

    @property
    def is_ready(self) -> bool:
        return True

    async def ready(self) -> None: ...

    def receive(self, frame: Frame) -> None: ...

    def overflowed(self) -> None:
        self.has_overflowed = True


class Scene:
    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.session = Session()
        self.gone = 0
        self.transport = PollingTransport(OPTIONS, "10.0.0.7", self._left)
        self.over = False
        self._began_at = trio.current_time()

    @property
    def elapsed_s(self) -> float:
        return round(trio.current_time() - self._began_at, 1)

    def _left(self) -> None:
        self.gone += 1

    async def serve(self) -> None:
        """As a connection does."""
        await self.transport.serve(self.session, self.nursery)
        self.over = True
        await self.transport.close(1011, "")

    def send(self, *texts: str) -> None:
        for text in texts:
            self.transport.send(Frame(text.encode()))

    async def fetch(self, hold_s: float = OPTIONS.hold_s, known: str | None = None) -> str | None:
        """A poll whose answer arrives."""
        with self.transport.visit():
            message = await self.transport.fetch(hold_s, known)
        if message is None:
            return None
        if message.etag != known:
            self.transport.fetched()
        return message.frame.payload.decode()


@pytest.fixture
async def scene(autojump_clock: MockClock) -> AsyncIterator[Scene]:
    async with trio.open_nursery() as nursery:
        made = Scene(nursery)
        nursery.start_soon(made.serve)
        await trio.testing.wait_all_tasks_blocked()
        assert made.session.is_open
        yield made
        nursery.cancel_scope.cancel()


async def test_messages_are_fetched_one_by_one_in_order(scene: Scene, autojump_clock: MockClock) -> None:
    scene.send("one", "two")
    assert [await scene.fetch(0), await scene.fetch(0), await scene.fetch(0)] == ["one", "two", None]


async def test_a_poll_waits_for_a_message_and_not_longer(scene: Scene, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(later, 10, scene.send, "one")
        assert await scene.fetch() == "one"
    assert scene.elapsed_s == 10
    assert await scene.fetch() is None
    assert scene.elapsed_s == 35


async def later(seconds: float, call: object, *arguments: object) -> None:
    await trio.sleep(seconds)
    call(*arguments)  # type: ignore[operator]


async def test_a_message_that_could_not_be_written_is_there_again(scene: Scene, autojump_clock: MockClock) -> None:
    scene.send("one", "two")
    message = await scene.transport.fetch(0, None)
    assert message is not None
    assert await scene.fetch(0) is None  # its answer may still arrive
    scene.transport.fetch_failed()
    assert [await scene.fetch(0), await scene.fetch(0)] == ["one", "two"]


async def test_who_polls_while_an_answer_is_under_way_gets_what_comes_behind_it(
    scene: Scene, autojump_clock: MockClock
) -> None:
    scene.send("one")
    assert await scene.transport.fetch(0, None) is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(later, 1, scene.transport.fetched)
        nursery.start_soon(later, 2, scene.send, "two")
        assert await scene.fetch() == "two"


async def test_the_newest_poll_gets_the_message(scene: Scene, autojump_clock: MockClock) -> None:
    found: list[tuple[int, str | None]] = []

    async def poll(number: int) -> None:
        found.append((number, await scene.fetch()))

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(poll, number)
            await trio.testing.wait_all_tasks_blocked()
        assert found == [(0, None), (1, None)]
        scene.send("one")
    assert found[2] == (2, "one")


async def test_a_poll_that_was_hung_up_takes_nothing_along(scene: Scene, autojump_clock: MockClock) -> None:
    with trio.move_on_after(1):
        await scene.fetch()
    scene.send("one")
    assert await scene.fetch(0) == "one"


async def test_what_is_known_already_stays_until_it_is_not(scene: Scene, autojump_clock: MockClock) -> None:
    scene.send("one", "two")
    assert await scene.fetch(0, 'W/"1"') == "one"
    assert await scene.fetch(0, 'W/"2"') == "one"
    assert await scene.fetch(0, 'W/"2"') == "two"
    assert await scene.fetch(0, 'W/"1"') == "two"


async def test_etags_count_from_one() -> None:
    assert Waiting(1, Frame(b"")).etag == 'W/"1"'


async def test_a_device_that_asks_for_nothing_is_gone_after_two_minutes(
    scene: Scene, autojump_clock: MockClock
) -> None:
    await scene.fetch(30)
    assert scene.elapsed_s == 30
    with scene.transport.visit():
        await trio.sleep(500)  # held for as long as it takes: somebody is there
    await trio.sleep(119)
    assert not scene.over
    await trio.sleep(2)
    assert (scene.over, scene.gone, scene.transport.closed_with) == (True, 1, (1001, "nothing was asked for"))


async def test_once_closed_what_is_left_is_fetched_and_then_it_is_over(scene: Scene, autojump_clock: MockClock) -> None:
    scene.send("error")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.transport.close, 4001, "refused")
        await trio.testing.wait_all_tasks_blocked()
        scene.send("too late")
        assert await scene.fetch() == "error"
        with pytest.raises(SessionOver, match="4001 refused"):
            await scene.fetch()
    assert scene.elapsed_s == 0
    assert (scene.gone, scene.transport.was_told) == (1, True)


async def test_a_poll_that_waits_is_told_at_once(scene: Scene, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(later, 1, nursery.start_soon, scene.transport.close, 1001, "going")
        with pytest.raises(SessionOver, match="1001 going"):
            await scene.fetch()
    assert scene.elapsed_s == 1


async def test_closing_takes_a_moment_at_most_and_last_words_are_kept(scene: Scene, autojump_clock: MockClock) -> None:
    scene.send("error")
    await scene.transport.close(4002, "bad")
    await scene.transport.close(1011, "again")
    assert scene.elapsed_s == module.CLOSE_TIMEOUT_S
    assert (scene.gone, scene.transport.was_told) == (1, False)
    assert await scene.fetch(0) == "error"
    with pytest.raises(SessionOver, match="4002 bad"):
        await scene.fetch()


async def test_much_that_nobody_came_for_is_thrown_away(scene: Scene, autojump_clock: MockClock) -> None:
    scene.send("x" * (module.LAST_WORDS_BYTES + 1))
    await scene.transport.close(4013, "slow")
    assert scene.transport.buffered_bytes == 0
    with pytest.raises(SessionOver):
        await scene.fetch()


async def test_an_answer_under_way_may_end_after_everything_was_thrown_away(
    scene: Scene, autojump_clock: MockClock
) -> None:
    scene.send("x" * (module.LAST_WORDS_BYTES + 1))
    await scene.transport.fetch(0, None)
    await scene.transport.close(4013, "slow")
    scene.transport.fetched()
    assert scene.transport.buffered_bytes == 0


async def test_nobody_is_told_that_a_session_has_vanished(scene: Scene, autojump_clock: MockClock) -> None:
    scene.send("one")
    found: list[str | None] = []

    async def poll() -> None:
        found.append(await scene.fetch(known='W/"1"'))
        found.append(await scene.fetch())

    async with trio.open_nursery() as nursery:
        await scene.fetch(0)
        nursery.start_soon(poll)
        await trio.testing.wait_all_tasks_blocked()
        scene.transport.vanish()
        await scene.transport.left.wait()
    assert found == [None, None]
    assert scene.elapsed_s == 0


async def test_more_unread_than_allowed_has_overflowed(scene: Scene, autojump_clock: MockClock) -> None:
    for _ in range(2):
        scene.send("x" * 60)
        assert not scene.session.has_overflowed
    scene.send("x" * 60)
    assert scene.session.has_overflowed


async def test_what_is_on_its_way_may_be_larger_than_all_that_may_wait(scene: Scene, autojump_clock: MockClock) -> None:
    scene.send("x" * 1_000)
    scene.send("x" * 100)
    assert not scene.session.has_overflowed
    scene.send("x")
    assert scene.session.has_overflowed


async def test_what_can_be_done_without_has_a_quarter_of_the_room(scene: Scene, autojump_clock: MockClock) -> None:
    assert scene.transport.has_room_for(100)
    scene.send("x")
    assert scene.transport.has_room_for(24)
    assert not scene.transport.has_room_for(25)


async def test_all_is_delivered_once_all_was_fetched(scene: Scene, autojump_clock: MockClock) -> None:
    assert scene.transport.delivered()
    scene.send("one")
    assert not scene.transport.delivered()
    await scene.fetch(0)
    assert scene.transport.delivered()


async def test_messages_are_small_until_the_handshake_was_accepted(scene: Scene, autojump_clock: MockClock) -> None:
    assert scene.transport.intake.limit_bytes == 4 << 20
    scene.transport.admit()
    assert scene.transport.intake.limit_bytes == 5 << 20


async def test_several_pages_that_poll_as_one_device_are_noticed_once(scene: Scene, autojump_clock: MockClock) -> None:
    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            for _ in range(3 * module.SUSPICIOUS):
                nursery.start_soon(scene.fetch)
                await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    (line,) = logs
    assert (line["event"], line["address"]) == ("polling.identity_shared", "10.0.0.7")
