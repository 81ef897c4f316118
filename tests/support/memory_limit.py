"""What a process takes of memory, and a limit on what it may take from now on: beyond it the kernel ends it.

The limit needs root, and control groups.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
FIRST, SECOND = (ROOT / "memory", "memory.limit_in_bytes"), (ROOT, "memory.max")
"""Where control groups of the first and of the second version are, and the file with the limit."""


def resident_bytes(process: int, *, most: bool = False) -> int:
    """What it has in memory now, or has had at most."""
    name = "VmHWM" if most else "VmRSS"
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


@contextmanager
def limited(process: int, size_bytes: int) -> Iterator[bool]:
    """Limit it meanwhile. False where that can't be done."""
    folder, file = FIRST if FIRST[0].is_dir() else SECOND
    group = folder / f"kora-test-{process}"
    try:
        group.mkdir()
    except OSError:
        yield False
        return
    try:
        yield _join(group, file, process, size_bytes)
    finally:
        with suppress(ProcessLookupError):
            (folder / "cgroup.procs").write_text(str(process))
        group.rmdir()


def _join(group: Path, file: str, process: int, size_bytes: int) -> bool:
    try:
        (group / file).write_text(str(size_bytes))
        (group / "cgroup.procs").write_text(str(process))
    except OSError:
        return False
    return True
