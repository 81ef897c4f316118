"""Threads that the system does not give us."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from kora_daemon.auth.none import NoAuthProvider
from kora_daemon.errors import StoreUnavailable
from kora_daemon.server.machine import NoThread
from kora_daemon.server.sync_server import SyncServer
from kora_daemon.server.threads import ThreadPool
from kora_daemon.store.sqlite import SqliteStore
from tests.unit.server.conftest import Shortage


def refuse() -> None:
    raise RuntimeError("can't start new thread, says the call itself")


async def test_a_pool_waits_until_there_is_a_thread_and_says_so_once(
    shortage: Shortage, capsys: pytest.CaptureFixture[str]
) -> None:
    pool, results = ThreadPool("kora-desk", 1), []

    async def ask(number: int) -> None:
        results.append(await pool.run(lambda: number))

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(ask, number)
        with trio.fail_after(5):
            while shortage.refused < 6:
                await trio.sleep(0.005)
        assert results == []
        shortage.is_over = True
    assert sorted(results) == [0, 1, 2]
    said = capsys.readouterr().out
    assert said.count("threads.exhausted") == 1
    assert "no thread for kora-desk could be started (can't start new thread)" in said


async def test_a_store_that_nobody_can_ask_does_not_answer(shortage: Shortage) -> None:
    pool = ThreadPool("kora-reader", 1, patience_s=0.1)
    for run in (pool.run, pool.run_abandonable):
        with pytest.raises(StoreUnavailable, match=r"no thread for kora-reader could be started .*: raise its limits"):
            await run(lambda: None)
    assert shortage.refused == 4
    shortage.is_over = True
    assert await pool.run(lambda: "here") == "here"


async def test_what_a_call_raises_itself_is_its_own_affair() -> None:
    with pytest.raises(RuntimeError, match="says the call itself"):
        await ThreadPool("kora-reader", 1, patience_s=0).run(refuse)


async def test_who_waits_for_a_thread_may_be_cancelled(shortage: Shortage) -> None:
    with trio.move_on_after(0.01) as waiting:
        await ThreadPool("kora-desk", 1).run(lambda: None)
    assert waiting.cancelled_caught


async def test_a_place_without_a_thread_is_free_again(shortage: Shortage) -> None:
    pool = ThreadPool("kora-route", 1)
    for _ in range(2):
        async with pool.place(1) as place:
            assert place is not None
            with pytest.raises(NoThread):
                await place.run_abandonable(lambda: None)
    shortage.is_over = True
    async with pool.place(1) as place:
        assert place is not None
        assert await place.run_abandonable(lambda: "here") == "here"


async def test_a_start_without_threads_says_so(shortage: Shortage, tmp_path: Path) -> None:
    server = SyncServer(SqliteStore(tmp_path / "kora.db"), NoAuthProvider())
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            with pytest.raises(StoreUnavailable, match="no thread for kora-store could be started"):
                await server.start(nursery)
