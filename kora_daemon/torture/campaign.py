"""Many seeds, in processes beside each other."""

from __future__ import annotations

import gc
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import count, takewhile
from multiprocessing.pool import AsyncResult, Pool
from time import monotonic, perf_counter

from msgspec import Struct

from kora_daemon.torture.run import StoreKind, Verdict, run_seed

_AHEAD = 10
"""Seeds for each process that are under way or waiting, so that none waits for the slowest one's verdict."""
_COLLECTED_EVERY = 50
"""Seeds between two collections: the collector's usual pauses would cost a fifth of the time."""


class Campaign(Struct):
    """What came of many seeds. `faults` counts them by kind; times in seconds."""

    seeds: int = 0
    operations: int = 0
    deliveries: int = 0
    lives: int = 0
    simulated_s: float = 0.0
    cpu_s: float = 0.0
    seconds: float = 0.0
    faults: dict[str, int] = {}
    failed: list[Verdict] = []

    def add(self, verdict: Verdict) -> None:
        """One more."""
        self.seeds += 1
        self.operations += verdict.operations
        self.deliveries += verdict.deliveries
        self.lives += verdict.lives
        self.simulated_s += verdict.simulated_s
        self.cpu_s += verdict.cpu_s
        for kind, times in verdict.faults.items():
            self.faults[kind] = self.faults.get(kind, 0) + times
        if verdict.violations:
            self.failed.append(verdict)

    @property
    def seeds_per_minute(self) -> float:
        """How fast it was."""
        return 60 * self.seeds / self.seconds if self.seconds else 0.0


class _Seed(Struct, frozen=True):
    number: int
    store: StoreKind
    keep_trace: bool


def run_campaign(
    first: int,
    store: StoreKind,
    *,
    seeds: int | None,
    minutes: float | None,
    processes: int,
    told: Callable[[Verdict], None],
) -> Campaign:
    """Run so many seeds from the first one on, or those that fit into so many minutes.

    `told` hears of each verdict, which has a trace if the seed has failed, or is the only one.
    """
    begun, campaign = perf_counter(), Campaign()
    numbers: Iterable[int] = count(first) if seeds is None else range(first, first + seeds)
    if minutes is not None:
        ends_at = monotonic() + 60 * minutes
        numbers = takewhile(lambda _: monotonic() < ends_at, numbers)
    for verdict in _verdicts((_Seed(number, store, seeds == 1) for number in numbers), processes):
        campaign.add(verdict)
        told(verdict)
    campaign.seconds = perf_counter() - begun
    return campaign


def _verdicts(seeds: Iterator[_Seed], processes: int) -> Iterator[Verdict]:
    if processes <= 1:
        yield from map(_run, seeds)
        return
    # A fresh interpreter each: nothing of this process gets into a simulation.
    with multiprocessing.get_context("spawn").Pool(processes, _prepare) as pool:
        yield from _in_order(pool, seeds, _AHEAD * processes)


def _in_order(pool: Pool, seeds: Iterator[_Seed], most: int) -> Iterator[Verdict]:
    """At most so many seeds are under way; a pool's own iterators would ask for all of them at once."""
    under_way: deque[AsyncResult[Verdict]] = deque()
    for seed in seeds:
        under_way.append(pool.apply_async(_run, (seed,)))
        if len(under_way) >= most:
            yield under_way.popleft().get()
    while under_way:
        yield under_way.popleft().get()


def _prepare() -> None:
    gc.disable()


def _run(seed: _Seed) -> Verdict:
    if not gc.isenabled() and seed.number % _COLLECTED_EVERY == 0:
        gc.collect()  # else nobody does
    return run_seed(seed.number, seed.store, keep_trace=seed.keep_trace)
