"""Names as PostgreSQL holds them: its texts know neither NUL nor halves of surrogate pairs, operations may.

What can't be stored is written with two characters. The order by code point stays as it was, and names without such
characters, practically all, are stored as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from kora_daemon.materialization.blobs import Mention
from kora_daemon.materialization.scope_keys import Selector
from kora_daemon.model.delivery import CausalKey, LogEntry
from kora_daemon.model.node import NodeMemory
from kora_daemon.model.record import RecordKey, RecordQuery
from kora_daemon.store import tables

_LOW, _HIGH = "\x01", "\ud7ff"
"""The characters right behind NUL and right before the surrogates; a second character tells what was meant."""
_UNSTORABLE = re.compile("[\x00\x01\ud7ff-\udfff]")
_WRITTEN = re.compile("\x01[\x01\x02]|\ud7ff[\x01-\u0801]")
_SIGNS = (b"\\u000", _HIGH.encode())
"""Of which one at least stands in the JSON text of a name that has to be written otherwise."""

NAME_COLUMNS = ("id", "node_id", "collection", "record_id", "timestamp_node_id", "transaction_id", "mutation_name")
"""The columns of the log that hold names."""
_ID, _NODE_ID, _COLLECTION, _RECORD_ID, _TIMESTAMP_NODE_ID, _TRANSACTION_ID, _MUTATION_NAME = _PLACES = [
    tables.ENTRY_COLUMNS.index(column) for column in NAME_COLUMNS
]


def stored_name(name: str) -> str:
    """A name as its column holds it."""
    return _UNSTORABLE.sub(_written, name)


def read_name(column: str) -> str:
    """Inverse of `stored_name`: the name in a column."""
    return _WRITTEN.sub(_meant, column) if _LOW in column or _HIGH in column else column


def names_json(names: Iterable[str]) -> str:
    """A JSON list of names as their columns hold them."""
    listed = list(names)
    return _json(listed) or msgspec.json.encode([stored_name(name) for name in listed]).decode()


def rows_json(rows: Iterable[Sequence[Any]], name_places: Sequence[int]) -> str:
    """Rows as `queries.recordset` takes them apart; at `name_places` stand names, or None."""
    listed = list(rows)
    keys = [f"c{place}" for place in range(len(listed[0]))] if listed else []
    text = _json([dict(zip(keys, row, strict=True)) for row in listed])
    if text is None:
        places = set(name_places)
        stored = [
            [stored_name(v) if place in places and v is not None else v for place, v in enumerate(row)]
            for row in listed
        ]
        text = msgspec.json.encode([dict(zip(keys, row, strict=True)) for row in stored]).decode()
    return text


def read_entry(row: tables.Row) -> LogEntry:
    """The log entry in a row of `tables.ENTRY_COLUMNS`. Raises like `tables.entry_of`."""
    names = f"{row[_ID]}{row[_NODE_ID]}{row[_COLLECTION]}{row[_RECORD_ID]}{row[_TIMESTAMP_NODE_ID]}"
    if row[_TRANSACTION_ID] is not None or row[_MUTATION_NAME] is not None or _LOW in names or _HIGH in names:
        columns = list(row)
        for place in _PLACES:
            if columns[place] is not None:
                columns[place] = read_name(columns[place])
        row = tuple(columns)
    return tables.entry_of(row)


def read_causal_key(row: tables.Row) -> CausalKey:
    """The causal key in a row of `tables.KEY_COLUMNS`. Raises like `tables.causal_key_of`."""
    sequence, operation_id, causal_deps, wall_time, logical, node_id = row
    return tables.causal_key_of(
        (sequence, read_name(operation_id), causal_deps, wall_time, logical, read_name(node_id))
    )


def read_memory(row: tables.Row) -> NodeMemory:
    """What is remembered of a device, in a row for `tables.memory_of`."""
    claimed_by, *rest = row
    return tables.memory_of((None if claimed_by is None else read_name(claimed_by), *rest))


def read_mention(row: tables.Row) -> Mention:
    """What an operation is about, and by whom, in a row of `queries.RECORDS_AT`."""
    collection, record_id, node_id = map(read_name, row)
    return Mention(RecordKey(collection, record_id), node_id)


def _json(value: list[Any]) -> str | None:
    """The text of a value, None where a name in it may have to be written otherwise."""
    try:
        document = msgspec.json.encode(value)
    except UnicodeEncodeError:
        return None
    return None if any(sign in document for sign in _SIGNS) else document.decode()


def _written(found: re.Match[str]) -> str:
    character = found[0]
    if character <= _LOW:
        return _LOW + chr(ord(character) + 1)
    return _HIGH + chr(ord(character) - ord(_HIGH) + 1)


def _meant(found: re.Match[str]) -> str:
    first, second = found[0][0], found[0][1]
    return chr(ord(second) - 1) if first == _LOW else chr(ord(_HIGH) + ord(second) - 1)


def stored_selectors(selectors: Iterable[Selector]) -> list[Selector]:
    """Selectors of collections as they are stored."""
    return [one._replace(collection=stored_name(one.collection)) for one in selectors]


def stored_id(where: Mapping[str, object]) -> Mapping[str, object]:
    """Conditions on the id are about the name as it is stored."""
    wanted = where.get("id")
    return {**where, "id": stored_name(wanted)} if isinstance(wanted, str) else where


def stored_query(query: RecordQuery) -> RecordQuery:
    """The query about names as they are stored."""
    after = None if query.after is None else stored_name(query.after)
    return replace(query, where=stored_id(query.where), after=after)
