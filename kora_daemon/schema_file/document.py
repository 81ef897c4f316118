"""From the parsed document to the schema."""

from __future__ import annotations

from kora_daemon.errors import ConfigError
from kora_daemon.model.jsvalue import as_integer
from kora_daemon.model.operation import MAX_SAFE_INTEGER
from kora_daemon.model.schema import Schema
from kora_daemon.schema_file.collections import read_collections
from kora_daemon.schema_file.migrations import check_migrations
from kora_daemon.schema_file.names import declared_names
from kora_daemon.schema_file.part import Notes, Part
from kora_daemon.schema_file.relations import read_relations
from kora_daemon.schema_file.sync import read_sync, with_sync_scope

_KEYS = ("version", "collections", "relations", "migrations", "sync")


def read_schema(document: object, source: str = "schema", *, object_word: str = "an object") -> Schema:
    """The schema in a parsed JSON or TOML document, in the form of `defineSchema()` or with short forms.

    `source` is the file's name and `object_word` what its format calls a mapping, for the sentences about problems.
    Raises `ConfigError` with every problem there is.
    """
    notes = Notes(source, object_word)
    try:
        schema = _read(Part(notes, document), notes)
    except RecursionError:
        raise ConfigError([f"{source}: is nested too deeply"]) from None
    if schema is None or notes.problems:
        raise ConfigError(notes.problems)
    return schema


def _read(root: Part, notes: Notes) -> Schema | None:
    """The schema, None when there is too little of one; every problem is in `notes`."""
    if not isinstance(root.value, dict):
        root.unfit("a schema: version, collections and what belongs to them")
        return None
    members = root.members("version and collections", *_KEYS)
    names = declared_names(members["collections"].value)
    version = _read_version(members["version"])
    collections = read_collections(members["collections"], names)
    relations = read_relations(members["relations"], names)
    check_migrations(members["migrations"], version)
    sync = read_sync(members["sync"], names)
    if version is None or notes.problems:
        return None
    return Schema(version=version, collections=with_sync_scope(collections, sync), relations=relations, sync=sync)


def _read_version(part: Part) -> int | None:
    version = as_integer(part.value)
    if version is None or not 1 <= version <= MAX_SAFE_INTEGER:
        part.unfit("a whole number from 1 up")
        return None
    return version
