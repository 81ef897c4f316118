"""The configuration as a JSON Schema, for editors: `kora config schema`, from the table of keys.

It knows each key by itself: what keys must fulfil together, and what is on the disk, `kora config check` knows.
"""

from __future__ import annotations

import json
from typing import Any

from kora_daemon.config.keys import Key, Table, declared_in, environment_name
from kora_daemon.config.kinds import REFERENCE, JsonSchema, any_of
from kora_daemon.config.settings import Settings
from kora_daemon.version import VERSION

SCHEMA_FILE = "kora.schema.json"
"""Where samples look for it: beside themselves."""


def config_schema() -> dict[str, Any]:
    """A JSON Schema of the dialect 2020-12; what it uses of it, draft 7 has as well, for editors that know only that.

    `$id` changes with the version of the daemon.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:kora-daemon:config:{VERSION}",
        "title": f"Kora Daemon {VERSION}, configuration",
        **_table(Settings, ""),
        "$defs": {
            "reference": {
                "type": "string",
                "pattern": r"\$\{",
                "description": "${NAME} or ${NAME:-default}, taken from the environment; $${ is a literal ${.",
            }
        },
    }


def config_schema_text() -> str:
    """The same as a file."""
    return json.dumps(config_schema(), ensure_ascii=False, indent=2) + "\n"


def _table(cls: type[Any], path: str) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for name, one in declared_in(cls).items():
        here = f"{path}.{name}" if path else name
        properties[name] = _key(one, here) if isinstance(one, Key) else _below(one, here)
    required = [name for name, one in declared_in(cls).items() if isinstance(one, Key) and one.required]
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema | ({"required": required} if required else {})


def _below(table: Table, path: str) -> dict[str, Any]:
    if table.form == "many":
        items = _table(table.cls, f"{path}[]")
        return {"title": f"[[{path}]]", "description": table.doc, "type": "array", "items": items}
    return {"title": f"[{path}]", "description": table.doc, **_table(table.cls, path)}


def _key(key: Key, path: str) -> dict[str, Any]:
    described: dict[str, Any] = {"title": path, "description": _description(key, path)}
    if key.default is not None:
        described["default"] = key.kind.dump(key.default)
    elif key.example is not None:
        described["examples"] = [key.example]
    return {**described, **_or_reference(key.kind.schema)}


def _description(key: Key, path: str) -> str:
    variable = environment_name(path)
    return f"{key.doc} Takes {key.kind.expects}.{f' Environment: {variable}.' if variable else ''}"


def _or_reference(schema: JsonSchema) -> JsonSchema:
    """A reference may stand for a whole value of any kind; a text that is not empty can be one anyway."""
    if not schema or schema.get("type") == "string":
        return schema
    options = schema.get("anyOf", [schema])
    return schema if REFERENCE in options else any_of(*options, REFERENCE)
