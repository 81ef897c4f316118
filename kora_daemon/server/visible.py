"""Which entries of the log a view shows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

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
    fields = _fields(entry)
    return any(not contradicts(where, fields) for where in alternatives)


def _fields(entry: DeliveryEntry) -> dict[str, Any]:
    operation = json.loads(entry.body)
    return {**(operation["previousData"] or {}), **(operation["data"] or {})}
