"""What a server costs its machine, read from /proc: itself and all processes that it started."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

_PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PARENT, _USER, _CHILDREN = 1, 11, 13
"""Fields of stat behind the name of the program; times come in pairs, user and system."""

Figures = dict[str, Any]


class Footprint(NamedTuple):
    """A tree of processes at one moment. `peak_mib` is the root's alone."""

    cpu_s: float
    rss_mib: float
    peak_mib: float
    descriptors: int
    threads: int


def footprint(pid: int) -> Footprint:
    """Of a process and its descendants, now. Zeros when it is gone."""
    tree = list(_tree(pid))
    status = {one: _status(one) for one in tree}
    return Footprint(
        sum(_cpu_s(one) for one in tree),
        sum(_kib(one, "VmRSS") for one in status.values()) / 1024,
        _kib(status[pid], "VmHWM") / 1024,
        sum(map(_descriptors, tree)),
        sum(int(one.get("Threads", "0")) for one in status.values()),
    )


def _stat(pid: int) -> list[str]:
    text = (_PROC / str(pid) / "stat").read_text("latin-1")
    return text[text.rindex(")") + 2 :].split()


def _tree(root: int) -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for entry in os.listdir(_PROC):
        if entry.isdecimal():
            with suppress(OSError):
                children.setdefault(int(_stat(int(entry))[_PARENT]), []).append(int(entry))
    waiting = [root]
    while waiting:
        one = waiting.pop()
        waiting += children.get(one, ())
        yield one


def _cpu_s(pid: int) -> float:
    try:
        fields = _stat(pid)
    except OSError:
        return 0.0
    return sum(map(int, fields[_USER : _CHILDREN + 2])) / _TICKS_PER_S


def _status(pid: int) -> dict[str, str]:
    try:
        lines = (_PROC / str(pid) / "status").read_text("latin-1").splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _kib(status: Mapping[str, str], name: str) -> int:
    return int(status.get(name, "0").split()[0])


def _descriptors(pid: int) -> int:
    try:
        return len(os.listdir(_PROC / str(pid) / "fd"))
    except OSError:
        return 0


def _machine_busy_s() -> float:
    user, nice, system, _, _, irq, softirq, *_ = map(int, (_PROC / "stat").read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system + irq + softirq) / _TICKS_PER_S


class Watch:
    """Watches a server, and its database apart from it, from `begin` to `end`. Either may be unknown."""

    def __init__(self, pid: int | None, store_pid: int | None = None) -> None:
        self.pid = pid
        self.store_pid = store_pid
        self.begin()

    def begin(self) -> None:
        """Count from now on."""
        self._began_s = time.perf_counter()
        self._own_s = time.process_time()
        self._busy_s = _machine_busy_s()
        if self.pid is not None:
            # The peak is counted anew; only the server's own user may ask for that.
            with suppress(OSError):
                (_PROC / str(self.pid) / "clear_refs").write_text("5")
            self._before = footprint(self.pid)
        if self.store_pid is not None:
            self._store_before = footprint(self.store_pid)

    def rss_mib(self) -> float | None:
        """The server's memory now."""
        return None if self.pid is None else footprint(self.pid).rss_mib

    def end(self, **work: int) -> dict[str, Figures]:
        """Figures since `begin`; `work` gives what was done its name, so that CPU per 1,000 of it can be told."""
        wall_s, own_s = time.perf_counter() - self._began_s, time.process_time() - self._own_s
        others_s = _machine_busy_s() - self._busy_s - own_s
        told: dict[str, Figures] = {}
        if self.pid is not None:
            after = footprint(self.pid)
            others_s -= after.cpu_s - self._before.cpu_s
            told["server"] = {
                **_cpu(after.cpu_s - self._before.cpu_s, wall_s, work),
                "rssBeforeMiB": round(self._before.rss_mib, 1),
                "rssAfterMiB": round(after.rss_mib, 1),
                "rssPeakMiB": round(after.peak_mib, 1),
                "descriptors": after.descriptors,
                "threads": after.threads,
            }
        if self.store_pid is not None:
            spent_s = footprint(self.store_pid).cpu_s - self._store_before.cpu_s
            others_s -= spent_s
            told["store"] = _cpu(spent_s, wall_s, work)
        told["generator"] = {"cpuSeconds": round(own_s, 2), "cores": round(own_s / wall_s, 2)}
        if self.pid is not None:
            told["machine"] = {"coresOfOthers": round(max(0.0, others_s / wall_s), 2)}
        return told


def _cpu(spent_s: float, wall_s: float, work: Mapping[str, int]) -> Figures:
    """CPU seconds and cores, and ms for each 1,000 of the work."""
    per = {
        f"cpuMsPer1000{name[0].upper()}{name[1:]}": round(spent_s * 1_000_000 / number, 2)
        for name, number in work.items()
        if number
    }
    return {"cpuSeconds": round(spent_s, 2), "cores": round(spent_s / wall_s, 2), **per}
