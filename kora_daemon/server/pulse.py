"""Signs of life of the tasks that everybody depends on."""

from __future__ import annotations

import time

SIGN_OF_LIFE_S = 5.0
"""Between two beats of a task that has nothing to do."""
PATIENCE_S = 30.0


class Pulse:
    """Of one task, which comes by here again and again, at work or not.

    `part` is its name for the log, `patience_s` how long it may stay away: longer than whatever it has to wait for.
    """

    def __init__(self, part: str, patience_s: float = PATIENCE_S) -> None:
        self.part = part
        self.patience_s = patience_s
        self._felt_at = time.monotonic()

    def beat(self) -> None:
        """The task goes on. May be called from any thread."""
        self._felt_at = time.monotonic()

    @property
    def stands_still(self) -> bool:
        """Whether the task was not here for too long."""
        return time.monotonic() - self._felt_at > self.patience_s
