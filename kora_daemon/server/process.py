"""What this process takes of its machine."""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from pathlib import Path

from msgspec import Struct

_STATM = Path("/proc/self/statm")
_DESCRIPTORS = Path("/proc/self/fd")


class ProcessState(Struct, frozen=True):
    """A process at one moment; `descriptors` is None where the system does not tell."""

    rss_bytes: int
    cpu_s: float
    descriptors: int | None
    max_descriptors: int
    threads: int


def process_state() -> ProcessState:
    """The process that asks, now."""
    descriptors = len(os.listdir(_DESCRIPTORS)) - 1 if _DESCRIPTORS.exists() else None
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return ProcessState(_rss_bytes(), time.process_time(), descriptors, limit, threading.active_count())


def _rss_bytes() -> int:
    if _STATM.exists():
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    # Elsewhere the most it ever was has to do; macOS counts in bytes, others in KiB.
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
