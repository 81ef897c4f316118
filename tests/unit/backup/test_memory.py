"""Memory does not grow with the log."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from kora_daemon.backup import export_backup, verify_backup
from kora_daemon.model.operation import Operation
from tests.support.operations import NOON_MS, operation

MANY = 10_000
"""Of 10 kB each: the tracing costs far more than the reading and writing, and it costs by the object."""
BOUND_BYTES = 1_024 * 1_024
"""A hundredth of the whole, more than twice what is in use: chunks, and what they are joined from."""


class LongLog:
    """Makes its operations as they are asked for."""

    def version_vector(self) -> Mapping[str, int]:
        return {"node-a": MANY}

    def operations(self) -> Iterator[Operation]:
        template = operation(1, data={"title": "x" * 10_000})
        for number in range(1, MANY + 1):
            template.sequence_number = number
            yield template


def test_a_long_log_passes_through(tmp_path: Path) -> None:
    path = tmp_path / "backup"

    def write() -> None:
        with path.open("wb") as file:
            file.writelines(export_backup(LongLog(), "server-1", NOON_MS))

    assert _peak_bytes(write) < BOUND_BYTES
    assert path.stat().st_size > 90 * BOUND_BYTES

    def read() -> None:
        with path.open("rb") as file:
            backup = verify_backup(file)
            assert sum(1 for _ in backup.operations()) == backup.operation_count == MANY

    assert _peak_bytes(read) < BOUND_BYTES


def _peak_bytes(act: Callable[[], None]) -> int:
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
