from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from kora_daemon.server.beat import next_beat


@pytest.mark.parametrize("interval_s", [0.01, 0.02, 0.1, 0.25, 0.3, 0.5, 1.0, 10.0])
async def test_beats_follow_each_other_and_never_stand_still(interval_s: float, autojump_clock: MockClock) -> None:
    begun = trio.current_time()
    for number in range(1, 200):
        await trio.sleep_until(next_beat(interval_s))
        assert trio.current_time() - begun == pytest.approx(number * interval_s)


async def test_tasks_of_different_intervals_are_woken_together(autojump_clock: MockClock) -> None:
    await trio.sleep(0.7)
    assert next_beat(0.5) == next_beat(1.0) == 1.0
    assert next_beat(0.25) == 0.75
