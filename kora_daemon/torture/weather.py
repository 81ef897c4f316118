"""The troubles of the moment, as they are for the daemon; the schedule brings them, and takes them away."""

from __future__ import annotations

from msgspec import Struct

EPOCH_MS = 1_700_000_000_000
"""The true wall time at which every simulation begins."""
USUAL_CALL_S = 0.002
"""On either side of what it does a blocking call takes no time, or up to that long."""


class Weather(Struct):
    """What ails the daemon's machine and its store now. Times in seconds, clocks in ms."""

    clock_ahead_ms: int = 0
    """How far the daemon's wall clock is from the truth."""
    call_s: float = USUAL_CALL_S
    store_is_out: bool = False
    """No call to the store succeeds."""
    commits_to_fail: int = 0
    """So many of the next commits fail, and do nothing."""
    commits_to_doubt: int = 0
    """So many of the next commits are done, and fail."""

    def clear_calls(self) -> None:
        """Calls take as long as usual."""
        self.call_s = USUAL_CALL_S

    def clear_up(self) -> None:
        """No trouble any more."""
        self.clock_ahead_ms = 0
        self.call_s = USUAL_CALL_S
        self.store_is_out = False
        self.commits_to_fail = self.commits_to_doubt = 0
