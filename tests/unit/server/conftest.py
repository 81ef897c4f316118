"""A system that has no threads for us."""

from __future__ import annotations

import threading

import pytest
from trio._core import _thread_cache

from kora_daemon.server import threads
from kora_daemon.server.news import News


class Shortage:
    """No new threads until it is over; `refused` so often."""

    def __init__(self) -> None:
        self.is_over = False
        self.refused = 0
        self._start = threading.Thread.start

    def start(self, thread: threading.Thread) -> None:
        if self.is_over:
            self._start(thread)
        else:
            self.refused += 1
            raise RuntimeError("can't start new thread")


@pytest.fixture
def shortage(monkeypatch: pytest.MonkeyPatch) -> Shortage:
    made = Shortage()

    def start(thread: threading.Thread) -> None:
        made.start(thread)

    # Nor are there any that idle.
    monkeypatch.setattr(_thread_cache, "THREAD_CACHE", _thread_cache.ThreadCache())
    monkeypatch.setattr(threading.Thread, "start", start)
    monkeypatch.setattr(threads, "_news", News())
    return made
