"""Percentiles are exact, and growth is told from noise."""

from __future__ import annotations

import random
from typing import Any

from kora_daemon.bench.samples import Samples
from kora_daemon.bench.verdict import judged


def test_percentiles_are_those_of_all_samples() -> None:
    samples = Samples()
    assert samples.percentiles_ms() == {"p50": None, "p90": None, "p99": None, "max": None}
    shuffled = list(range(1, 201))
    random.Random(1).shuffle(shuffled)
    for ms in shuffled:
        samples.add(ms / 1000)
    assert samples.percentiles_ms() == {"p50": 100, "p90": 180, "p99": 198, "max": 200}


def sample(minute: int, rss: float = 100, threads: int = 4, p50: float = 5) -> dict[str, Any]:
    return {
        "minute": minute,
        "server": {"rssAfterMiB": rss, "threads": threads, "cpuMsPer1000Operations": 8.0},
        "otherDescriptors": 19,
        "ackMs": {"p50": p50, "p99": None},
    }


def test_what_goes_on_growing_is_not_flat() -> None:
    verdict = judged([sample(one, rss=100 + one, threads=4 + one // 20) for one in range(40)])
    assert {name for name, one in verdict.items() if not one["flat"]} == {"server.rssAfterMiB"}
    assert verdict["server.rssAfterMiB"] == {"before": 114.5, "after": 134.5, "perHour": 60.0, "flat": False}
    assert verdict["server.threads"]["after"] == 5


def test_warming_up_and_single_bad_minutes_are_no_growth() -> None:
    verdict = judged([sample(one, rss=min(100, 60 + 5 * one), p50=500 if one % 7 == 6 else 5) for one in range(40)])
    assert all(one["flat"] for one in verdict.values())
    assert "ackMs.p50" in verdict
    assert "ackMs.p99" not in verdict, "nothing is said of what was not measured"


def test_a_few_samples_say_nothing() -> None:
    assert judged([sample(one, rss=100 * one) for one in range(7)]) == {}
