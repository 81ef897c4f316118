"""How far one reading of the log goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from kora_daemon.model.delivery import DeliveryEntry, LogEntry
from kora_daemon.model.operation import NULL

E = TypeVar("E")


def take_bytes(entries: Iterable[LogEntry], max_bytes: int | None) -> list[LogEntry]:
    """The entries up to and with the one whose `data` and `previous_data` make all together pass `max_bytes`."""
    return list(entries) if max_bytes is None else _take(entries, _data_bytes, max_bytes)


def take_deliveries(entries: Iterable[DeliveryEntry], max_bytes: int) -> list[DeliveryEntry]:
    """The entries up to and with the one whose body makes all together pass `max_bytes`."""
    return _take(entries, lambda entry: len(entry.body), max_bytes)


def _take(entries: Iterable[E], size_of: Callable[[E], int], max_bytes: int) -> list[E]:
    taken: list[E] = []
    size_bytes = 0
    for entry in entries:
        taken.append(entry)
        size_bytes += size_of(entry)
        if size_bytes > max_bytes:
            break
    return taken


def _data_bytes(entry: LogEntry) -> int:
    operation = entry.operation
    previous = operation.previous_data
    return len(bytes(operation.data)) + (0 if previous is NULL else len(bytes(previous)))
