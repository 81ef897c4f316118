"""Flat or not: the last quarter of a run against its second one; the first is for warming up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import linear_regression, median
from typing import Any, NamedTuple

LEAST_SAMPLES = 8
"""Fewer say nothing."""


class Tolerance(NamedTuple):
    """How much more still counts as flat: whichever of the two is larger."""

    share: float
    amount: float


TOLERANCES: Mapping[str, Tolerance] = {
    "server.rssAfterMiB": Tolerance(0.05, 8),
    "otherDescriptors": Tolerance(0, 2),
    "server.threads": Tolerance(0, 1),
    # Neighbours on the machine are in these, too.
    "server.cpuMsPer1000Operations": Tolerance(0.5, 0),
    "ackMs.p50": Tolerance(0.5, 5),
    "ackMs.p99": Tolerance(1, 50),
    "deliveryMs.p50": Tolerance(0.5, 5),
    "deliveryMs.p99": Tolerance(1, 50),
}


def judged(samples: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """By figure: the median before and after, the slope per hour from the first of the two on, whether it is flat.

    Empty when there are too few samples.
    """
    if len(samples) < LEAST_SAMPLES:
        return {}
    quarter = len(samples) // 4
    told = {}
    for name, tolerance in TOLERANCES.items():
        later = [(one["minute"], _figure(one, name)) for one in samples[quarter:]]
        values = [value for _, value in later]
        if None in values:
            continue
        before, after = median(values[:quarter]), median(values[-quarter:])
        told[name] = {
            "before": round(before, 2),
            "after": round(after, 2),
            "perHour": round(linear_regression([at for at, _ in later], values).slope * 60, 3),
            "flat": after <= before + max(before * tolerance.share, tolerance.amount),
        }
    return told


def _figure(sample: Mapping[str, Any], path: str) -> Any:  # noqa: ANN401  a number or None
    value: Any = sample
    for name in path.split("."):
        value = value.get(name) if value is not None else None
    return value
