"""File descriptors run out: those who are connected notice nothing, and others come in again when there are some."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.http import http_client
from tests.support.network import eventually, streaming
from tests.support.process import UNLIMITED, Daemon
from tests.support.witnesses import Witnesses

DESCRIPTORS = 60
CROWD = 300
FULL = "listener.out_of_descriptors"


@contextmanager
def crowd(port: int) -> Iterator[list[socket.socket]]:
    """Many who connect and say nothing."""
    with ExitStack() as stack:
        strangers = [stack.enter_context(socket.socket()) for _ in range(CROWD)]
        for stranger in strangers:
            stranger.setblocking(False)
            stranger.connect_ex(("127.0.0.1", port))
        yield strangers


def was_turned_away(stranger: socket.socket) -> bool:
    try:
        return stranger.recv(1) == b""
    except ConnectionError:
        return True
    except BlockingIOError:
        return False


def _open_descriptors(daemon: Daemon) -> int:
    return sum(1 for _ in Path(f"/proc/{daemon.process.pid}/fd").iterdir())


@pytest.mark.slow
async def test_who_is_connected_stays_and_others_come_in_when_there_is_room(tmp_path: Path) -> None:
    with Daemon(tmp_path, UNLIMITED) as daemon:
        limit = (DESCRIPTORS, DESCRIPTORS)
        resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, limit)
        witnesses = Witnesses(lambda: daemon.url, pause_s=0.01)
        async with witnesses.living(), http_client(daemon.port) as other:
            await witnesses.at_work()
            with crowd(daemon.port) as strangers:
                await eventually(lambda: FULL in daemon.logged())
                await witnesses.make_progress(300)
                # Each of these opens the file.
                assert [(await other.ask("/health")).status for _ in range(3)] == [200] * 3
                turned_away = sum(map(was_turned_away, strangers))
                assert CROWD - DESCRIPTORS <= turned_away < CROWD
            # Until the crowd has been seen off there is no room.
            await eventually(lambda: _open_descriptors(daemon) < DESCRIPTORS // 2)
            async with streaming(daemon.url, "late"):
                pass
        assert daemon.logged().count(FULL) == 1
        assert "Traceback" not in daemon.logged()
        assert [one.connections for one in (*witnesses.writers, *witnesses.listeners)] == [1] * 6
        await witnesses.agree()
