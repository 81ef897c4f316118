"""Which entries of the log a view shows: judged by what they carry and by their stamps, never by a look at records."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from kora_daemon.materialization.stamp import snapshot
from kora_daemon.model.delivery import DeliveryEntry
from kora_daemon.model.view import View, contradicts


def visible_entries(view: View, entries: Sequence[DeliveryEntry]) -> list[DeliveryEntry]:
    """The entries that a view shows, in order."""
    if view.unrestricted:
        return list(entries)
    return [entry for entry in entries if _shows(view, entry)]


def _shows(view: View, entry: DeliveryEntry) -> bool:
    alternatives = view.conditions(entry.collection)
    if not alternatives:
        return alternatives is not None
    fields, unknown = _snapshot(entry)
    return any(not contradicts(where, fields, unknown) for where in alternatives)


def _snapshot(entry: DeliveryEntry) -> tuple[dict[str, Any], Collection[str] | None]:
    operation = json.loads(entry.body)
    stamp = None if entry.stamp is None else json.loads(entry.stamp)
    return snapshot(stamp, {**(operation["previousData"] or {}), **(operation["data"] or {})})
