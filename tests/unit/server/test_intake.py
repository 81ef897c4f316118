"""Messages that come each over a connection of its own."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
import trio.testing

from kora_daemon.server import intake as module
from kora_daemon.server.intake import Intake, TooMuchAtOnce
from kora_daemon.wire.frame import Frame
from kora_daemon.wire.glimpse import glimpse

HELLO = {"type": "handshake", "messageId": "h", "lastDeliverySequence": 0}
ACK = {"type": "acknowledgment", "messageId": "a"}


class Over(Exception):
    pass


class Scene:
    """An intake and what came out of it, by message id."""

    def __init__(self) -> None:
        self.given_up: list[str] = []
        self.intake = Intake(self.check_open, self.give_up)
        self.intake.limit_bytes = 100
        self.heard: list[str] = []
        self.wants_more = trio.Event()
        self.wants_more.set()

    def open(self) -> Scene:
        self.intake.open(self)
        return self

    def check_open(self) -> None:
        if self.given_up:
            raise Over

    def give_up(self, reason: str) -> None:
        self.given_up.append(reason)
        self.intake.close()

    def opened(self) -> None: ...

    def overflowed(self) -> None: ...

    @property
    def is_ready(self) -> bool:
        return self.wants_more.is_set()

    async def ready(self) -> None:
        await self.wants_more.wait()

    def receive(self, frame: Frame) -> None:
        self.heard.append(json.loads(frame.payload)["messageId"])

    async def take(self, message: dict[str, Any]) -> None:
        frame = Frame(json.dumps(message).encode())
        await self.intake.take(frame, glimpse(frame))


def batch(index: int, total: int, name: str = "") -> dict[str, Any]:
    return {
        "type": "operation-batch",
        "messageId": name or f"b{index}",
        "batchIndex": index,
        "isFinal": index == total - 1,
        "totalBatches": total,
    }


LIVE = {"type": "operation-batch", "messageId": "live", "batchIndex": 0, "isFinal": True}


async def test_messages_are_handed_in_in_order_however_they_arrive() -> None:
    scene = Scene().open()
    async with trio.open_nursery() as nursery:
        for message in (LIVE, batch(2, 3), ACK, batch(1, 3), batch(0, 3), HELLO):
            nursery.start_soon(scene.take, message)
            await trio.testing.wait_all_tasks_blocked()
    assert scene.heard == ["h", "a", "b0", "b1", "b2", "live"]


async def test_nothing_is_handed_in_before_the_session_is_open() -> None:
    scene = Scene()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.take, HELLO)
        await trio.testing.wait_all_tasks_blocked()
        assert scene.heard == []
        scene.open()
    assert scene.heard == ["h"]


async def test_one_waits_until_the_session_wants_it_and_the_others_behind_it() -> None:
    scene = Scene().open()
    await scene.take(HELLO)
    scene.wants_more = trio.Event()
    async with trio.open_nursery() as nursery:
        for message in (batch(0, 1), ACK):
            nursery.start_soon(scene.take, message)
            await trio.testing.wait_all_tasks_blocked()
        assert scene.heard == ["h"]
        scene.wants_more.set()
    assert scene.heard == ["h", "b0", "a"]


async def test_of_those_whose_turn_it_is_who_came_first_goes_first() -> None:
    scene = Scene().open()
    await scene.take(HELLO)
    scene.wants_more = trio.Event()
    names = [f"live{number}" for number in range(10)]
    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(scene.take, {**LIVE, "messageId": name})
            await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(scene.take, batch(0, 1))
        await trio.testing.wait_all_tasks_blocked()
        scene.wants_more.set()
    assert scene.heard == ["h", "b0", *names]


async def test_what_waits_when_the_session_ends_waits_no_longer() -> None:
    scene = Scene().open()
    ended = 0

    async def take(message: dict[str, Any]) -> None:
        nonlocal ended
        with pytest.raises(Over):
            await scene.take(message)
        ended += 1

    async with trio.open_nursery() as nursery:
        for message in (LIVE, ACK, batch(0, 1)):
            nursery.start_soon(take, message)
        await trio.testing.wait_all_tasks_blocked()
        scene.give_up("over")
    await take(HELLO)
    assert (ended, scene.heard) == (4, [])


async def test_who_waits_for_a_session_that_ends_without_a_word_is_told() -> None:
    scene = Scene().open()
    scene.wants_more = trio.Event()
    told = trio.Event()

    async def take() -> None:
        with pytest.raises(Over):
            await scene.take(HELLO)
        told.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        scene.give_up("over")
        with trio.fail_after(5):
            await told.wait()
    assert scene.heard == []


async def test_the_same_message_once_more_is_handed_in_once() -> None:
    scene = Scene().open()
    await scene.take(HELLO)
    for _ in range(3):
        await scene.take(batch(0, 1))
    await scene.take(batch(0, 1, "another"))
    assert scene.heard == ["h", "b0", "another"]


async def test_a_repeated_handshake_is_passed_on() -> None:
    scene = Scene().open()
    await scene.take(HELLO)
    await scene.take(HELLO)
    assert scene.heard == ["h", "h"]


async def test_what_was_written_before_the_handshake_is_late() -> None:
    scene = Scene().open()
    await scene.take({**HELLO, "messageId": "msg-1000-7"})
    for late in (ACK, batch(0, 1), HELLO):
        await scene.take({**late, "messageId": "msg-999-6"})
    for name in ("msg-1000-8", "msg-1001-3", "msg-999-9", "other"):
        await scene.take({**ACK, "messageId": name})
    assert scene.heard == ["msg-1000-7", "msg-1000-8", "msg-1001-3", "msg-999-9", "other"]


async def test_garbage_is_passed_on_at_once() -> None:
    scene = Scene().open()
    frame = Frame(b'{"messageId":"garbage"}')
    await scene.intake.take(frame, None)
    assert scene.heard == ["garbage"]


async def test_who_leaves_out_what_has_to_come_first_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    scene = Scene().open()
    await scene.take(HELLO)
    began_at = trio.current_time()
    with pytest.raises(Over):
        await scene.take(batch(1, 2))
    assert trio.current_time() - began_at == pytest.approx(module.ORDER_PATIENCE_S)
    assert len(scene.given_up) == 1
    assert scene.heard == ["h"]


async def test_a_device_that_never_says_how_many_there_are_is_taken_at_its_word(
    autojump_clock: trio.testing.MockClock,
) -> None:
    scene = Scene().open()
    await scene.take(HELLO)
    began_at = trio.current_time()
    async with trio.open_nursery() as nursery:
        for index, final in ((0, False), (1, True)):
            part = {"type": "operation-batch", "messageId": f"b{index}", "batchIndex": index, "isFinal": final}
            nursery.start_soon(scene.take, part)
    assert trio.current_time() - began_at == pytest.approx(module.TOTAL_PATIENCE_S)
    await scene.take(LIVE)
    assert trio.current_time() - began_at == pytest.approx(module.TOTAL_PATIENCE_S)
    assert scene.heard == ["h", "b0", "b1", "live"]


@pytest.mark.parametrize("first", [None, 0])
async def test_nothing_overtakes_a_part_of_what_was_missed(
    first: int | None, autojump_clock: trio.testing.MockClock
) -> None:
    scene = Scene().open()
    await scene.take(HELLO)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.take, LIVE)
        await trio.testing.wait_all_tasks_blocked()  # it does not know yet of what comes behind
        for index in (1, 2) if first is None else (0, 2):
            nursery.start_soon(scene.take, batch(index, 3))
        await trio.sleep(3 * module.TOTAL_PATIENCE_S)
        assert "live" not in scene.heard
        await scene.take(batch(0 if first is None else 1, 3))
    assert scene.heard == ["h", "b0", "b1", "b2", "live"]


async def test_as_long_as_something_comes_nobody_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    scene = Scene().open()
    await scene.take(HELLO)

    async def come_slowly() -> None:
        for index in range(3):
            with scene.intake.coming_in():
                await trio.sleep(3 * module.ORDER_PATIENCE_S)
            await scene.take(batch(index, 4))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(come_slowly)
        await scene.take(batch(3, 4))
    assert scene.heard == ["h", "b0", "b1", "b2", "b3"]


async def test_waiting_for_the_session_is_no_reason_to_give_up(autojump_clock: trio.testing.MockClock) -> None:
    scene = Scene().open()
    await scene.take(HELLO)
    scene.wants_more = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.take, batch(0, 2))
        nursery.start_soon(scene.take, batch(1, 2))
        await trio.sleep(5 * module.ORDER_PATIENCE_S)
        scene.wants_more.set()
    assert scene.heard == ["h", "b0", "b1"]


async def test_a_message_that_breaks_off_ends_the_session_for_all_that_wait() -> None:
    scene = Scene().open()
    await scene.take(HELLO)
    over = trio.Event()

    async def wait_in_vain() -> None:
        with pytest.raises(Over):
            await scene.take(batch(1, 2))
        over.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_in_vain)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BrokenResourceError), scene.intake.coming_in():
            raise trio.BrokenResourceError
    assert over.is_set()
    assert scene.given_up == ["a message broke off"]
    assert scene.heard == ["h"]


async def test_all_together_have_the_room_of_one() -> None:
    scene = Scene().open()
    entered: list[int] = []
    leave = trio.Event()

    async def come(size: int) -> None:
        async with scene.intake.room_for(size):
            entered.append(size)
            await leave.wait()

    async with trio.open_nursery() as nursery:
        for size in (60, 41, 40):
            nursery.start_soon(come, size)
            await trio.testing.wait_all_tasks_blocked()
        assert entered == [60, 40]
        leave.set()
    assert entered == [60, 40, 41]


async def test_one_that_is_too_large_comes_alone() -> None:
    scene = Scene().open()
    async with scene.intake.room_for(1_000):
        pass


async def test_there_is_a_limit_to_how_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_AT_ONCE", 2)
    scene = Scene().open()
    async with scene.intake.room_for(1), scene.intake.room_for(1):
        with pytest.raises(TooMuchAtOnce):
            async with scene.intake.room_for(1):
                pass
    async with scene.intake.room_for(1):
        pass
