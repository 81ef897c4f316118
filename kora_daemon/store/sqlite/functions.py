"""SQL functions of ours that queries use."""

from __future__ import annotations

import apsw

from kora_daemon.materialization.conditions import json_key
from kora_daemon.store.tables import texts

JSON_KEY = "kora_json_key"
CHECKED_TEXTS = "kora_checked_texts"
"""A list of texts in JSON, as it is; raises like `tables.entry_of` for what is none."""


def register(connection: apsw.Connection) -> None:
    """Make them known to a connection."""
    connection.create_scalar_function(JSON_KEY, _json_key, 1, deterministic=True)
    connection.create_scalar_function(CHECKED_TEXTS, _checked_texts, 1, deterministic=True)


def _json_key(*columns: object) -> str | None:
    (column,) = columns
    return None if column is None else json_key(column)


def _checked_texts(*columns: object) -> str:
    column = str(columns[0])
    texts(column)
    return column
