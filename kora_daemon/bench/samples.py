"""Times that were measured, and their percentiles."""

from __future__ import annotations

from array import array
from math import ceil

Percentiles = dict[str, float | None]
"""p50, p90, p99 and max, in ms; None when nothing was measured."""


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

    def percentiles_ms(self) -> Percentiles:
        """Of all samples."""
        ordered = sorted(self._seconds)

        def at(share: float) -> float | None:
            return round(ordered[ceil(share * len(ordered)) - 1] * 1000, 3) if ordered else None

        return {"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1.0)}
