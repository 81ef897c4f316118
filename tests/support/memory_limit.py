"""A limit on what a process may take from now on: beyond it the kernel ends it. Needs root, and control groups."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
FIRST, SECOND = (ROOT / "memory", "memory.limit_in_bytes"), (ROOT, "memory.max")
"""Where control groups of the first and of the second version are, and the file with the limit."""


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
