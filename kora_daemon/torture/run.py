"""One seed, from nothing to a verdict."""

from __future__ import annotations

import random
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import process_time
from typing import Any, Literal

import trio
from msgspec import Struct

from kora_daemon.store.contract import Store
from kora_daemon.store.memory import MemoryStore
from kora_daemon.store.sqlite import SqliteStore
from kora_daemon.torture.clock import JumpingClock
from kora_daemon.torture.trace import Trace
from kora_daemon.torture.world import World

StoreKind = Literal["memory", "sqlite"]
_SERVER_NODE = "01890000-0000-7000-8000-000000000000"


class Verdict(Struct, frozen=True):
    """What came of a seed. `violations` are sentences, none when all is well; a `trace` may be left out then."""

    seed: int
    store: StoreKind
    digest: str
    violations: list[str]
    trace: list[str]
    operations: int
    deliveries: int
    lives: int
    faults: dict[str, int]
    simulated_s: float
    cpu_s: float

    @property
    def replay(self) -> str:
        """The command that runs this seed again."""
        return f"kora torture --seed {self.seed} --seeds 1" + (
            "" if self.store == "memory" else f" --store {self.store}"
        )


def run_seed(seed: int, store: StoreKind = "memory", *, keep_trace: bool = False) -> Verdict:
    """Run a world to its end. The same seed comes to the same verdict and digest, in any process."""
    begun = process_time()
    trace, clock = Trace(), JumpingClock()
    with _deterministic(seed), _opened(store) as opened:
        world = World(seed, opened, trace)
        violations = world.witness.violations
        try:
            trio.run(world.run, clock=clock)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            violations.append(f"the simulation ends with {_leaf(error)}")
            trace.explain("".join(traceback.format_exception(error)))
    faults = Counter(one.kind for one in world.schedule if one.kind not in ("write", "show presence"))
    return Verdict(
        seed,
        store,
        trace.digest,
        violations,
        trace.story if violations or keep_trace else [],
        len(world.witness.log),
        world.witness.deliveries,
        world.lives,
        dict(sorted(faults.items())),
        clock.current_time(),
        process_time() - begun,
    )


def _leaf(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return repr(error)


@contextmanager
def _opened(kind: StoreKind) -> Iterator[Store]:
    """The medium of one world: it outlives each of the daemon's lives."""
    if kind == "memory":
        memory = MemoryStore(node_id=_SERVER_NODE)
        memory.open()
        yield memory
        return
    with tempfile.TemporaryDirectory(prefix="kora-torture-") as folder:
        # No power is lost here, so nobody has to wait for the disk.
        database = SqliteStore(Path(folder) / "kora.db", durability="normal", node_id=_SERVER_NODE)
        database.open()
        try:
            yield database
        finally:
            database.close()


@contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    """Let trio run tasks in an order that the seed decides.

    Tasks that can run at the same time are run in random order, on purpose. What draws that order is private, yet it is
    what Hypothesis and pytest-trio seed, by way of trio's own hook for the former. Left alone it also begins with the
    order of a set, which hangs on addresses; the flag sorts first.
    """
    scheduler: Any = trio._core._run
    before = scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r.getstate(), random.getstate()
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True
    scheduler._r.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING, state, general = before
        scheduler._r.setstate(state)
        random.setstate(general)
