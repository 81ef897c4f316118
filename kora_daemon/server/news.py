"""What is told in the log once in a while, however often it happens and whoever it comes from."""

from __future__ import annotations

from time import monotonic

TOLD_INTERVAL_S = 60.0
"""Between two lines about the same thing."""


class News:
    """For any thread."""

    def __init__(self) -> None:
        self._told_at: dict[str, float] = {}

    def is_news(self, what: str) -> bool:
        """Whether this is to be told now. There are few kinds of `what`, all known beforehand."""
        if monotonic() - self._told_at.get(what, -TOLD_INTERVAL_S) < TOLD_INTERVAL_S:
            return False
        self._told_at[what] = monotonic()
        return True
