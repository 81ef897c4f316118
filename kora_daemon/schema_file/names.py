"""The names that a schema file declares, known before any of it is judged."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeAlias

from kora_daemon.schema_file.part import Part, shown_name

Names: TypeAlias = Mapping[str, Collection[str] | None]
"""Collection -> its fields, None where these can't be told. Has the ones with problems of their own, too."""


def declared_names(collections: object) -> Names:
    """The names in the value of `collections`."""
    if not isinstance(collections, dict):
        return {}
    return {name: _fields_of(one) for name, one in collections.items()}


def _fields_of(collection: object) -> Collection[str] | None:
    fields = collection.get("fields") if isinstance(collection, dict) else None
    return tuple(fields) if isinstance(fields, dict) else None


def collection_name(part: Part, names: Names) -> str:
    """The name of a collection that there is."""
    return part.one_of(names, "a collection") or ""


def field_name(part: Part, collection: str, names: Names) -> str:
    """The name of a field that the collection has."""
    fields = names.get(collection)
    if fields is None:
        return part.text("the name of a field")
    return part.one_of(fields, f"a field of {shown_name(collection)}") or ""


def field_names(part: Part, collection: str, names: Names) -> tuple[str, ...]:
    """The names in a list of fields that the collection has, each once."""
    found = [field_name(one, collection, names) for one in part.elements("a list of names of fields")]
    return tuple(dict.fromkeys(found))


def refuse_lookalikes(named: Mapping[str, Part]) -> None:
    """Refuse names that differ in case only: one table, or one column, for SQLite."""
    first: dict[str, str] = {}
    for name, part in named.items():
        twin = first.setdefault(name.lower(), name)
        if twin != name:
            part.refuse(f"differs from {shown_name(twin)} in case only, which SQLite takes for the same; rename one")
