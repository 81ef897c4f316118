"""Times that were measured, and their percentiles."""

from __future__ import annotations

from array import array
from math import ceil

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


class Samples:
    """Keeps every one: percentiles are exact."""

    def __init__(self) -> None:
        self._seconds = array("d")
        self.add = self._seconds.append
        """Takes one, in seconds."""

    def __len__(self) -> int:
        return len(self._seconds)

    def clear(self) -> None:
        """Forget them all."""
        del self._seconds[:]

    def percentiles_ms(self) -> dict[str, float | None]:
        """p50, p90, p99 and max of all samples, in ms; None when there are none."""
        ordered = sorted(self._seconds)
        if not ordered:
            return dict.fromkeys(PERCENTILES)
        return {name: round(ordered[ceil(share * len(ordered)) - 1] * 1000, 3) for name, share in PERCENTILES.items()}
