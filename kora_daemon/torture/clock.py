"""Simulated time."""

from __future__ import annotations

import math

import trio


class JumpingClock(trio.abc.Clock):
    """Stands still while there is something to do, and then jumps to where somebody waits for.

    trio asks how long it may sleep only when no task can run. What `trio.testing.MockClock` does takes two rounds of
    the loop for each jump, and a good part of a simulation is such rounds.
    """

    def __init__(self) -> None:
        self._now = 0.0

    def start_clock(self) -> None:
        """Part of the interface."""

    def current_time(self) -> float:
        """Seconds since the beginning."""
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """None at all: it is that time now. At the end, when nobody waits for any time, trio wakes itself."""
        if deadline == math.inf:
            return math.inf
        self._now = max(self._now, deadline)
        return 0.0
