"""Which entries of the log a view shows (scopes.md sections 3 and 12).

What an operation carries itself often decides. For the rest there is its stamp, and where that does not do (operations
of collections without a table, fields that stamps do not follow) the record is looked up.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from kora_daemon.materialization.stamp import snapshot
from kora_daemon.model.delivery import DeliveryEntry
from kora_daemon.model.record import RecordKey
from kora_daemon.model.view import Rule, View

LookUp = Callable[[Iterable[RecordKey]], Mapping[RecordKey, Mapping[str, Any]]]
"""What records are now."""
ScopedFields = Mapping[str, frozenset[str]]
"""Collection -> the fields whose stamps say what the record is now, not what it was."""
NO_FIELDS: frozenset[str] = frozenset()
KnownFields = Mapping[str, frozenset[str]]
"""Collection -> the fields that its records have. What a stamp does not name of them is null."""


class _Body(Struct, rename="camel"):
    record_id: str
    data: Any = None
    previous_data: Any = None


class Judged(NamedTuple):
    """What an entry is judged by, read once for all views."""

    key: RecordKey
    carried: Mapping[str, Any]
    stamped: Mapping[str, Any] | None
    unknown: Collection[str] = ()


_read = msgspec.json.Decoder(_Body).decode


def entries_by_stamps(view: View, entries: Sequence[DeliveryEntry], known: KnownFields) -> list[DeliveryEntry] | None:
    """The entries that a view shows, in order, for operations stored a moment ago: their stamps are what records are.

    None when what the entries have does not suffice.
    """
    if view.unrestricted:
        return list(entries)
    shown: list[DeliveryEntry] = []
    for entry in entries:
        rule = view.rule(entry.collection)
        if rule is None:
            continue
        if rule.alternatives:
            judged = judged_by(entry)
            if not _says_enough(rule, judged, known.get(entry.collection, _NO_FIELDS)):
                return None
            if not rule.shows(judged.carried, judged.stamped):
                continue
        shown.append(entry)
    return shown


def _says_enough(rule: Rule, judged: Judged, known: frozenset[str]) -> bool:
    if judged.stamped is not None and not judged.unknown and rule.fields <= known:
        return True
    missing = (rule.fields - judged.carried.keys()) | rule.by_record
    return not missing or (judged.stamped is not None and missing <= known and missing.isdisjoint(judged.unknown))


_NO_FIELDS: frozenset[str] = frozenset()


def entries_by_records(
    view: View, entries: Sequence[DeliveryEntry], scoped: ScopedFields, look_up: LookUp
) -> list[DeliveryEntry]:
    """The entries that a view shows, in order, whenever they were stored. Records are looked up all in one go."""
    if view.unrestricted:
        return list(entries)
    doubtful = [entry for entry in entries if _is_doubtful(view.rule(entry.collection), entry, scoped)]
    records = look_up({judged_by(entry).key for entry in doubtful}) if doubtful else {}
    looked_up = {entry.sequence for entry in doubtful}
    shown: list[DeliveryEntry] = []
    for entry in entries:
        rule = view.rule(entry.collection)
        if rule is None:
            continue
        if rule.alternatives:
            judged = judged_by(entry)
            record = records.get(judged.key) if entry.sequence in looked_up else judged.stamped
            if not rule.shows(judged.carried, record):
                continue
        shown.append(entry)
    return shown


def apart(view: View, shown: Sequence[DeliveryEntry]) -> list[int]:
    """Where batches of these entries have to begin: their delivery sequences, ascending.

    A stock client compares a whole batch with its accepted scope and its subsets before it applies any of it. Of what
    says too little itself (partial updates, deletes) it keeps what its own copy of the record supplements, and drops
    the rest for good: so that must not be in the batch that brings the record.
    """
    begins: list[int] = []
    if view.unrestricted:
        return begins
    brought: set[RecordKey] = set()
    for entry in shown:
        rule = view.rule(entry.collection)
        if rule is None or rule.checked is None:
            continue
        judged = judged_by(entry)
        if rule.stands_alone(judged.carried):
            brought.add(judged.key)
        elif judged.key in brought:
            begins.append(entry.sequence)
            brought.clear()
    return begins


def _is_doubtful(rule: Rule | None, entry: DeliveryEntry, scoped: ScopedFields) -> bool:
    if rule is None or not rule.alternatives:
        return False
    judged = judged_by(entry)
    missing = (rule.fields - judged.carried.keys()) | rule.by_record
    return bool(missing) and (judged.stamped is None or not missing <= scoped.get(entry.collection, NO_FIELDS))


def judged_by(entry: DeliveryEntry) -> Judged:
    """What an entry is judged by."""
    found: Judged | None = entry.judged
    if found is None:
        body = _body(entry.body)
        key = RecordKey(entry.collection, body.record_id)
        found = entry.judged = Judged(key, *snapshot(body.record_id, body.data, body.previous_data, entry.stamp))
    return found


def _body(text: bytes) -> _Body:
    try:
        return _read(text)
    except msgspec.DecodeError:
        # Halves of surrogate pairs, which the fast decoder refuses.
        members = json.loads(text)
        return _Body(members["recordId"], members["data"], members["previousData"])
