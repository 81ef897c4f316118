"""Reads the collections of a schema file, with their constraints."""

from __future__ import annotations

import re

from kora_daemon.model.jsvalue import JsonValue
from kora_daemon.model.schema import CONSTRAINT_TYPES, RESERVED_TABLES, Collection, Constraint, ConstraintType
from kora_daemon.schema_file.fields import read_fields
from kora_daemon.schema_file.names import Names, collection_name, field_name, field_names, refuse_lookalikes
from kora_daemon.schema_file.part import Part
from kora_daemon.schema_file.states import check_state_machine

_NAME = re.compile("[A-Za-z][A-Za-z0-9_]*")
_KEYS = ("fields", "indexes", "constraints", "resolvers", "scope", "stateMachine")
_CONSTRAINT_KEYS = ("type", "fields", "where", "onConflict", "priorityField")


def read_collections(part: Part, names: Names) -> dict[str, Collection]:
    """The collections, as far as they are in order."""
    named = part.table("collections")
    if part.value == {}:
        part.unfit("at least one collection")
    for name, one in named.items():
        _check_name(name, one)
    refuse_lookalikes(named)
    return {name: _read_collection(one, name, names) for name, one in named.items()}


def _check_name(name: str, part: Part) -> None:
    if name.lower() in RESERVED_TABLES:
        part.refuse(f"the name {name.lower()} belongs to a table of the log; choose another")
    elif name.lower().startswith("sqlite_"):
        part.refuse("SQLite keeps names that begin with sqlite_ to itself; choose another")
    elif not _NAME.fullmatch(name):
        part.reading(name).unfit("a name of a to z, A to Z, 0 to 9 and _ that begins with a letter")


def _read_collection(part: Part, name: str, names: Names) -> Collection:
    if not isinstance(part.value, dict):
        part.unfit("a collection with its fields")
        return Collection(name=name, fields={})
    members = part.members("a collection", *_KEYS)
    fields = read_fields(members["fields"])
    indexes = field_names(members["indexes"], name, names)
    constraints = [_read_constraint(one, name, names) for one in members["constraints"].elements("a list of rules")]
    scope = field_names(members["scope"], name, names)
    if members["stateMachine"].is_given:
        check_state_machine(members["stateMachine"], name, fields, names)
    return Collection(
        name=name,
        fields=fields,
        indexes=indexes,
        constraints=tuple(one for one in constraints if one is not None),
        scope=scope,
    )


def _read_constraint(part: Part, collection: str, names: Names) -> Constraint | None:
    """A constraint, None when its type can't be told. `onConflict` is for devices and not kept."""
    if not isinstance(part.value, dict):
        part.unfit('a rule, such as { type = "unique", fields = ["email"] }')
        return None
    members = part.members("a type and fields", *_CONSTRAINT_KEYS)
    fields = field_names(members["fields"], collection, names)
    if members["fields"].value == [] or not members["fields"].is_given:
        members["fields"].unfit("a list of one or more names of fields")
    priority = members["priorityField"]
    if priority.is_given or members["onConflict"].value == "priority-field":
        field_name(priority, collection, names)
    type_name = members["type"].one_of(CONSTRAINT_TYPES, "a type of constraint")
    for known in CONSTRAINT_TYPES:
        if known == type_name:
            return Constraint(type=known, fields=fields, where=_read_where(members["where"], known, collection, names))
    return None


def _read_where(part: Part, constraint: ConstraintType, collection: str, names: Names) -> dict[str, JsonValue]:
    if not part.is_given:
        return {}
    where = part.table("fields, each with its value")
    if constraint == "referential":
        if "collection" in where:
            collection_name(where["collection"], names)
    elif (fields := names.get(collection)) is not None:
        for name, one in where.items():
            one.check_key(name, ("id", *fields), "field")
    return {name: one.json() for name, one in where.items()}
