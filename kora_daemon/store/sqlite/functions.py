"""SQL functions of ours that queries use."""

from __future__ import annotations

import apsw

from kora_daemon.materialization.conditions import json_key

JSON_KEY = "kora_json_key"


def register(connection: apsw.Connection) -> None:
    """Make them known to a connection."""
    connection.create_scalar_function(JSON_KEY, _json_key, 1, deterministic=True)


def _json_key(*columns: object) -> str | None:
    (column,) = columns
    return None if column is None else json_key(column)
