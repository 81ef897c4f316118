"""Many inputs for one target: each within a time and a memory limit, failures kept in a folder."""

from __future__ import annotations

import hashlib
import math
import mmap
import resource
import signal
import struct
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import FrameType

from msgspec import Struct

from tests.fuzz.target import Target

DEADLINE_S = 2.0
"""CPU time that one input may take: a message in time for the next heartbeat of everybody else."""
MAX_GROWTH_BYTES = 96 << 20
"""By which an input may raise the most that the process ever had."""
_LOOKED_AT_TOGETHER = 64
_KEPT_FAILURES = 40
_REDUCTIONS = 300
_POOL = 400
"""Inputs that further ones are made of."""
_LONG = 16_384


class TooSlow(BaseException):
    """An input took longer than the deadline."""


class TooMuchMemory(Exception):
    """An input took more memory than it may."""


class Failure(Struct, frozen=True):
    """What an input did, and where it is kept."""

    kind: str
    place: str
    path: str


class Report(Struct):
    """A campaign so far. Seconds and worst time are CPU time.

    Memory is what inputs have added to the most that the process ever had.
    """

    target: str
    inputs: int = 0
    seconds: float = 0.0
    worst_s: float = 0.0
    peak_bytes: int = 0
    failures: list[Failure] = []


class Notebook:
    """The input under way and how many came before, in shared memory: known even when the program dies of it."""

    _HEAD = struct.Struct("<QQ")

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory

    @classmethod
    def blank(cls, size_bytes: int) -> Notebook:
        """A new one, shared with all processes that are forked later."""
        return cls(mmap.mmap(-1, size_bytes + cls._HEAD.size))

    def note(self, count: int, data: bytes) -> None:
        """This one comes now."""
        self._memory[: self._HEAD.size] = self._HEAD.pack(count, len(data))
        self._memory[self._HEAD.size : self._HEAD.size + len(data)] = data

    def read(self) -> tuple[int, bytes]:
        """How many came before, and the last one."""
        count, size = self._HEAD.unpack(self._memory[: self._HEAD.size])
        return count, self._memory[self._HEAD.size : self._HEAD.size + size]


def peak_bytes() -> int:
    """The most memory that this process had at any time."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raises TooSlow inside once so much CPU time has gone by."""

    def late(_signal: int, _frame: FrameType | None) -> None:
        raise TooSlow(f"more than {seconds:g} s of CPU time")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


class Campaign:
    """Hands inputs to a target, one at a time."""

    def __init__(
        self, target: Target, folder: Path, notebook: Notebook | None = None, deadline_s: float = DEADLINE_S
    ) -> None:
        self._target = target
        self._folder = folder
        self._notebook = notebook
        self._deadline_s = deadline_s
        self._known: set[tuple[str, str]] = set()
        self._report = Report(target.name)
        self._recent: list[tuple[float, bytes]] = []
        self._peak_bytes = peak_bytes()

    def take(self, data: bytes) -> None:
        """One input."""
        if self._notebook is not None:
            self._notebook.note(self._report.inputs, data)
        began = time.process_time()
        problem = self._problem(data)
        seconds = time.process_time() - began
        self._report.inputs += 1
        self._report.seconds += seconds
        self._report.worst_s = max(self._report.worst_s, seconds)
        if problem is not None:
            self._keep(data, problem)
        self._recent.append((seconds, data))
        if len(self._recent) == _LOOKED_AT_TOGETHER:
            self._look_at_memory()

    @property
    def report(self) -> Report:
        """What came of it so far."""
        self._look_at_memory()
        return self._report

    def _look_at_memory(self) -> None:
        """Of several inputs at a time: to ask costs more than most of them."""
        growth, self._peak_bytes = peak_bytes() - self._peak_bytes, peak_bytes()
        self._report.peak_bytes += growth
        if growth > MAX_GROWTH_BYTES and self._recent:
            _, slowest = max(self._recent)
            self._keep(slowest, TooMuchMemory(f"{growth >> 20} MiB for some of these inputs, likely for this one"))
        self._recent.clear()

    def _problem(self, data: bytes) -> BaseException | None:
        try:
            with deadline(self._deadline_s):
                self._target.run(data)
        except (Exception, TooSlow) as problem:
            return problem
        return None

    def _keep(self, data: bytes, problem: BaseException) -> None:
        known_by = _kind(problem), _place(problem)
        if known_by in self._known or len(self._known) >= _KEPT_FAILURES:
            return
        self._known.add(known_by)
        reduced = data if isinstance(problem, TooSlow | TooMuchMemory) else self._reduced(data, known_by)
        text = "".join(traceback.format_exception(problem))
        self._report.failures.append(keep_failure(self._folder, self._target.name, reduced, known_by, text))

    def _reduced(self, data: bytes, known_by: tuple[str, str]) -> bytes:
        """A shorter input that fails in the same place: pieces are left out as long as it does."""
        tries, size = 0, len(data) // 2
        while size and tries < _REDUCTIONS:
            at = 0
            while at < len(data) and tries < _REDUCTIONS:
                shorter, tries = data[:at] + data[at + size :], tries + 1
                problem = self._problem(shorter)
                if problem is not None and (_kind(problem), _place(problem)) == known_by:
                    data = shorter
                else:
                    at += size
            size //= 2
        return data


def keep_failure(folder: Path, target: str, data: bytes, known_by: tuple[str, str], text: str) -> Failure:
    """Write a failing input, as `python -m tests.fuzz --replay` takes it, and what happened beside it."""
    place = folder / target
    place.mkdir(parents=True, exist_ok=True)
    path = place / hashlib.sha256(data).hexdigest()[:16]
    path.write_bytes(data)
    path.with_suffix(".txt").write_text(text, "utf-8", "backslashreplace")
    return Failure(*known_by, str(path))


def _kind(problem: BaseException) -> str:
    return type(problem).__name__


def _place(problem: BaseException) -> str:
    """Where it went wrong: the innermost line of the daemon."""
    frames = traceback.extract_tb(problem.__traceback__)
    ours = [one for one in frames if "/kora_daemon/" in one.filename] or frames
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""


def inputs(target: Target, random: Random) -> Iterator[bytes]:
    """Inputs without end: the seeds, then changes to them, and to some of what came out."""
    seeds = list(target.seeds())
    changed = list(seeds)
    yield from seeds
    while True:
        # Mostly from the seeds: what is made of changes to changes is soon nothing but noise.
        data = target.mutate(random.choice(seeds if random.random() < 0.8 else changed), random)
        if len(data) > _LONG:
            pass  # takes its time and is hardly ever what makes the difference: once is enough
        elif len(changed) < _POOL:
            changed.append(data)
        else:
            changed[random.randrange(_POOL)] = random.choice(seeds) if random.random() < 0.5 else data
        yield data


def seeded(campaign: Campaign, target: Target, count: int, seed: int, seconds: float = math.inf) -> None:
    """So many inputs, the same ones for the same seed; fewer when so much time has gone by."""
    made = inputs(target, Random(f"{seed} {target.name}"))
    ends_at = time.monotonic() + seconds
    for _ in range(count):
        campaign.take(next(made))
        if time.monotonic() > ends_at:
            break
