"""How costs grow: with the log, with the history of a record, with listeners, and with their views.

`python -m tests.benchmarks.bench_curves [CURVE ...]`: of log, history, listeners, views; by default all, for ten
minutes or more. Each point is `kora bench` against a fresh daemon (SQLite, schema), the best of three runs: neighbours
only add.
Prints tables and charts as docs/performance.md has them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from kora_daemon.bench import fan_out, ingest
from kora_daemon.bench.fan_out import FanOutLoad
from kora_daemon.bench.ingest import IngestLoad
from kora_daemon.bench.rig import Rig, Subject, rig

RUNS = 3
LOGS = (0, 100_000, 1_000_000)
HISTORIES = (1, 10, 100, 1_000, 10_000)
LISTENERS = (10, 50, 100, 500, 1_000, 2_000)
VIEWS = (1, 10, 50, 100, 250, 500)

Figures = Mapping[str, Any]
Row = Sequence[float]


def by_log() -> Iterator[Row]:
    """Ingest in batches of 100, and a burst to 100 listeners, with so many operations in the log."""
    for size in LOGS:
        runs = RUNS if size < 1_000_000 else 1  # which take minutes to write
        uploads = best(runs, ingest.run, IngestLoad(operations=20_000, preload=size), "Operations")
        burst = best(runs, fan_out.run, FanOutLoad(operations=1_000, preload=size), "Deliveries")
        yield size, uploads[0], burst[0]


def by_history() -> Iterator[Row]:
    """Ingest of 10,000 operations, so many of them on each record."""
    for length in HISTORIES:
        cost, _ = best(RUNS, ingest.run, IngestLoad(operations=10_000, updates=length - 1), "Operations")
        yield length, cost


def by_listeners() -> Iterator[Row]:
    """10 operations a second to so many devices."""
    for listeners in LISTENERS:
        load = FanOutLoad(listeners=listeners, rate=10, operations=80)
        cost, figures = best(RUNS, fan_out.run, load, "Deliveries")
        yield listeners, cost, figures["deliveryMs"]["p50"], figures["deliveryMs"]["p99"]


def by_views() -> Iterator[Row]:
    """10 operations a second to 500 devices that have so many different views among them."""
    for views in VIEWS:
        load = FanOutLoad(listeners=500, views=views, rate=10, operations=80)
        cost, figures = best(RUNS, fan_out.run, load, "Deliveries")
        yield views, cost, figures["deliveryMs"]["p50"], figures["deliveryMs"]["p99"]


def best(runs: int, run: Callable[[Rig, Any], Figures], load: object, what: str) -> tuple[float, Figures]:
    """The least CPU us of the daemon for one of something, and the figures of that run."""
    found = [clean(run, load) for _ in range(runs)]
    cost, figures = min(((one["server"][f"cpuMsPer1000{what}"], one) for one in found), key=lambda pair: pair[0])
    return round(cost, 1), figures


def clean(run: Callable[[Rig, Any], Figures], load: object) -> Figures:
    """The figures of a run. Raises RuntimeError for one that lost something."""
    with rig(Subject(patience_s=900)) as made:
        figures = run(made, load)
        if made.trouble:
            raise RuntimeError(f"not a clean run: {dict(made.trouble)}")
    return figures


COST = "CPU µs a delivery"
CURVES: Mapping[str, tuple[Callable[[], Iterator[Row]], Sequence[str]]] = {
    "log": (by_log, ("operations in the log", "ingest, CPU µs an operation", f"burst to 100, {COST}")),
    "history": (by_history, ("operations of each record", "CPU µs an operation")),
    "listeners": (by_listeners, ("listeners", COST, "p50 ms", "p99 ms")),
    "views": (by_views, ("views", COST, "p50 ms", "p99 ms")),
}


def report(heads: Sequence[str], rows: Sequence[Row]) -> None:
    """The table of a curve, and its chart."""
    print("| " + " | ".join(heads) + " |\n|" + " --- |" * len(heads))
    for row in rows:
        print("| " + " | ".join(f"{value:,}" for value in row) + " |")
    print("\n```mermaid\nxychart-beta")
    print(f'    x-axis "{heads[0]}" [{", ".join(f"{row[0]}" for row in rows)}]')
    print(f'    y-axis "{heads[1]}" 0 --> {2 * max(row[1] for row in rows):.0f}')
    print(f"    line [{', '.join(f'{row[1]}' for row in rows)}]\n```\n", flush=True)


if __name__ == "__main__":
    for name in sys.argv[1:] or CURVES:
        measure, columns = CURVES[name]
        report(columns, list(measure()))
