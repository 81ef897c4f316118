"""The daemon may have no more memory, and so no more threads: nobody's session crashes, and all is well afterwards."""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.network import eventually
from tests.support.process import UNLIMITED, Daemon
from tests.support.witnesses import Witnesses

NO_STACK_BYTES = 4 << 20
"""Room for what lists grow by, and not for a thread's stack of 8 MiB."""
SHORT = "threads.exhausted"


@contextmanager
def no_threads(daemon: Daemon) -> Iterator[None]:
    """The daemon gets no new threads meanwhile."""
    process = daemon.process.pid
    size = re.search(r"^VmSize:\s+(\d+) kB$", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    assert size is not None
    before = resource.prlimit(process, resource.RLIMIT_AS)
    resource.prlimit(process, resource.RLIMIT_AS, (int(size[1]) * 1024 + NO_STACK_BYTES, before[1]))
    yield
    resource.prlimit(process, resource.RLIMIT_AS, before)


@pytest.mark.slow
async def test_without_new_threads_sessions_wait_or_come_again(tmp_path: Path) -> None:
    with Daemon(tmp_path, UNLIMITED) as daemon:
        witnesses = Witnesses(lambda: daemon.url, pause_s=0.01)
        with no_threads(daemon):
            async with witnesses.living():
                await witnesses.at_work()
                await eventually(lambda: SHORT in daemon.logged())
                await witnesses.make_progress(2_000)
        await witnesses.agree()
        logged = daemon.logged()
        assert logged.count(SHORT) == 1
        assert "Traceback" not in logged
        assert "crashed" not in logged
