"""What the system gives a process: open files, memory."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

from kora_daemon.config import Settings
from kora_daemon.doctor.checks import Check, Finding, fine, warning
from kora_daemon.doctor.sizes import size_text

RESERVED_FILES = 64
"""Beside the connections of devices: listeners, the store, pipes, whatever the app's code opens."""
USUAL_FILES = 4_096
"""Fewer are too few where the number of devices has no limit of ours."""
MEMORY = Path("/proc/meminfo")
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def resources(settings: Settings) -> Iterator[Check]:
    """Whether there is enough for as many devices as are let in."""
    yield Check("limits.files", lambda: _files(settings))
    yield Check("limits.memory", lambda: _memory(settings))


def _files(settings: Settings) -> Finding:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)  # the daemon raises its own limit to this
    devices = settings.server.max_connections
    reserved = RESERVED_FILES + settings.store.readers
    if most == resource.RLIM_INFINITY:
        return fine("as many files may be open as there are devices")
    needed = reserved + (devices + settings.limits.max_unauthenticated if devices else USUAL_FILES)
    found = f"{most:,} files may be open, room for {max(0, most - reserved):,} connections"
    if most >= needed:
        return fine(found)
    wanted = f"server.max_connections is {devices:,}" if devices else "server.max_connections sets no limit"
    return warning(f"{found}; {wanted}", f"LimitNOFILE={needed} in the unit, or ulimit -n; or lower the limits")


def _memory(settings: Settings) -> Finding:
    there, whose = min((size, name) for size, name in _memory_limits())
    each, devices = settings.limits.max_buffered_bytes, settings.server.max_connections
    found = f"{size_text(there)} ({whose}) take {there // each:,} devices that all stall at limits.max_buffered_bytes"
    if not devices:
        return fine(f"{found}; server.max_connections sets no limit")
    if devices * each <= there:
        return fine(found)
    return warning(
        f"{found}; server.max_connections lets {devices:,} in",
        "lower limits.max_buffered_bytes or server.max_connections, if so many can stall at once",
    )


def _memory_limits() -> Iterator[tuple[int, str]]:
    for line in MEMORY.read_text().splitlines():
        if line.startswith("MemTotal:"):
            yield int(line.split()[1]) * 1024, "this host"
    for folder in _cgroups():
        limit = folder / "memory.max"
        text = limit.read_text().strip() if limit.exists() else "max"
        if text != "max":
            yield int(text), "the control group"


def _cgroups() -> Iterator[Path]:
    """The control groups that this process is in, the innermost first."""
    own = OWN_CGROUP.read_text() if OWN_CGROUP.exists() else ""
    for line in own.splitlines():
        inner = CGROUPS / line.rpartition(":")[2].lstrip("/")
        yield from (one for one in (inner, *inner.parents) if one.is_relative_to(CGROUPS))
