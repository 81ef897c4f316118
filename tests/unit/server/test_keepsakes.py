"""What a device's last session wants to be kept is there before its next one begins."""

from __future__ import annotations

import trio
import trio.testing

from kora_daemon.server.keepsakes import Keepsakes


async def test_a_device_waits_for_all_that_is_its_own() -> None:
    keepsakes, came = Keepsakes(), []

    async def come(node_id: str) -> None:
        await keepsakes.wait_for(node_id)
        came.append(node_id)

    keepsakes.add("a")
    keepsakes.add("a")
    keepsakes.add("b")
    async with trio.open_nursery() as nursery:
        for node_id in ("a", "b", "c"):
            nursery.start_soon(come, node_id)
        await trio.testing.wait_all_tasks_blocked()
        assert came == ["c"]
        keepsakes.kept("a")
        keepsakes.kept("b")
        await trio.testing.wait_all_tasks_blocked()
        assert came == ["c", "b"]
        keepsakes.kept("a")
    assert came == ["c", "b", "a"]


async def test_a_device_that_is_gone_leaves_nothing_behind() -> None:
    keepsakes = Keepsakes()
    keepsakes.add("a")
    keepsakes.kept("a")
    await keepsakes.wait_for("a")
    assert not keepsakes._waiting
