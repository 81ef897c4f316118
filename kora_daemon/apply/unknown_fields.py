"""Fields of the server's own writes that the schema does not have: legal, and a slip more often than not."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from kora_daemon.apply.trusted import ConditionalWrite, Mutation, TrustedWrite
from kora_daemon.config.nearest import nearest_name
from kora_daemon.model.schema import Schema

MOST_TOLD: Final = 10
"""Of one write: a search for the nearest name takes its time."""
_SHOWN_CHARACTERS: Final = 40


def unknown_fields(schema: Schema | None, wanted: TrustedWrite) -> list[str]:
    """A sentence on each such field; none without a schema, nor for a collection that it does not have."""
    if schema is None:
        return []
    unknown = dict.fromkeys(
        (one.collection, name)
        for one in _mutations(wanted)
        if one.collection in schema.collections and one.type != "delete"
        for name in (*(one.data or ()), *(one.atomic or ()))
        if name not in schema.collections[one.collection].fields
    )
    return [_sentence(schema, *one, "The log has it, records don't show it") for one in islice(unknown, MOST_TOLD)]


def unknown_conditions(schema: Schema | None, wanted: TrustedWrite) -> list[str]:
    """A sentence on each field that a write's condition asks for, where the schema does not have it."""
    if schema is None or not isinstance(wanted, ConditionalWrite):
        return []
    name = wanted.target.collection
    if name not in schema.collections:
        return []
    known = {*schema.collections[name].fields, "id", "_created_at", "_updated_at"}
    unknown = (field for field in wanted.condition if field not in known)
    return [_sentence(schema, name, field, "The condition finds nothing there") for field in islice(unknown, MOST_TOLD)]


def _mutations(wanted: TrustedWrite) -> Iterator[Mutation]:
    if isinstance(wanted, ConditionalWrite):
        yield Mutation("update", *wanted.target, wanted.update, wanted.atomic)
        yield from wanted.also
    else:
        yield wanted


def _sentence(schema: Schema, collection: str, name: str, so: str) -> str:
    fields = schema.collections[collection].fields
    nearest = nearest_name(name, fields)
    instead = f"did you mean {nearest!r}?" if nearest else f"it has {', '.join(fields) or 'none'}."
    return f"{collection} has no field {name[:_SHOWN_CHARACTERS]!r}; {instead} {so}"
