"""How far one reading of the log goes."""

from __future__ import annotations

from collections.abc import Iterable

from kora_daemon.model.delivery import DeliveryEntry, LogEntry
from kora_daemon.model.operation import NULL


def take_bytes(entries: Iterable[LogEntry], max_bytes: int | None) -> list[LogEntry]:
    """The entries up to and with the one whose `data` and `previous_data` make all together pass `max_bytes`."""
    if max_bytes is None:
        return list(entries)
    taken: list[LogEntry] = []
    size_bytes = 0
    for entry in entries:
        taken.append(entry)
        operation = entry.operation
        size_bytes += len(bytes(operation.data))
        if operation.previous_data is not NULL:
            size_bytes += len(bytes(operation.previous_data))
        if size_bytes > max_bytes:
            break
    return taken


def take_deliveries(entries: Iterable[DeliveryEntry], max_bytes: int) -> list[DeliveryEntry]:
    """The entries up to and with the one whose body makes all together pass `max_bytes`."""
    taken: list[DeliveryEntry] = []
    size_bytes = 0
    for entry in entries:
        taken.append(entry)
        size_bytes += len(entry.body)
        if size_bytes > max_bytes:
            break
    return taken
