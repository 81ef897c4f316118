"""The beat to which a daemon does what it does every so often: an idle one is woken once for all of it.

Waking costs more than what there is to do then: the loop's bookkeeping, and a processor that has forgotten everything.
"""

from __future__ import annotations

import trio


def next_beat(interval_s: float) -> float:
    """When to do what is done once in so many seconds: the next multiple of them, on the event loop's clock (s)."""
    now = trio.current_time()
    beats = now // interval_s + 1
    # A multiple may be rounded down to the present.
    return beats * interval_s if beats * interval_s > now else (beats + 1) * interval_s
