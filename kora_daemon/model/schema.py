"""The app's schema, as far as a server acts on it (store.md section 2).

What only devices act on is not here and so can have no effect: required and automatic fields, merge strategies, state
machines, migrations, `onConflict`, the type of a relation. `kora_daemon.schema_file` reads a schema, and checks all of
what is said here about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from kora_daemon.model.binary import is_index_bytes, is_tagged_bytes
from kora_daemon.model.jsvalue import JsonValue, canonical_json, is_number

Kind: TypeAlias = Literal[
    "string", "number", "boolean", "timestamp", "richtext", "enum", "array", "object", "json", "blob", "secret"
]
ConstraintType: TypeAlias = Literal["unique", "capacity", "referential"]
OnDelete: TypeAlias = Literal["cascade", "set-null", "restrict", "no-action"]

KINDS: tuple[Kind, ...] = get_args(Kind)
CONSTRAINT_TYPES: tuple[ConstraintType, ...] = get_args(ConstraintType)
ON_DELETE: tuple[OnDelete, ...] = get_args(OnDelete)

RESERVED_FIELDS = frozenset({"id", "_created_at", "_updated_at", "_version", "_deleted"})
"""Names that no field has, whatever their case."""

RESERVED_TABLES = frozenset(
    {
        "operations",
        "sync_state",
        "delivery_counter",
        "kora_meta",
        "kora_records",
        "kora_collections",
        "kora_scopes",
        "kora_nodes",
        "kora_words",
    }
)
"""Tables of the log: names that no collection has, whatever their case."""


class _Shape(NamedTuple):
    """The values of a kind, in words and as a test."""

    words: str
    fits: Callable[[Any], bool]


_TEXT = _Shape("a text", lambda value: isinstance(value, str))
_NUMBER = _Shape("a number", is_number)
_OBJECT = _Shape("an object", lambda value: isinstance(value, dict))
_ANYTHING = _Shape("any value", lambda value: True)
_SHAPES: Mapping[Kind, _Shape] = {
    "string": _TEXT,
    "number": _NUMBER,
    "boolean": _ANYTHING,
    "timestamp": _NUMBER._replace(words="a number of milliseconds"),
    "richtext": _Shape(
        "a text or bytes", lambda value: isinstance(value, str) or is_tagged_bytes(value) or is_index_bytes(value)
    ),
    "array": _Shape("a list", lambda value: isinstance(value, list)),
    "object": _OBJECT,
    "json": _ANYTHING,
    "blob": _OBJECT,
    "secret": _TEXT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field of a collection.

    `enum_values` is empty unless the kind is `enum`. `default` is a JSON value and shows in the table's declaration
    only: the server fills nothing in. None stands for no default, too.
    """

    name: str
    kind: Kind
    enum_values: tuple[str, ...] = ()
    default: JsonValue = field(default=None, hash=False)

    def admits(self, value: JsonValue) -> bool:
        """Whether an operation may carry this value (store.md section 6.1, point 2). Null is always fine."""
        if value is None:
            return True
        return value in self.enum_values if self.kind == "enum" else _SHAPES[self.kind].fits(value)

    @property
    def expects(self) -> str:
        """The values that `admits` lets in, in words."""
        if self.kind == "enum":
            return f"one of {', '.join(self.enum_values)}"
        return _SHAPES[self.kind].words


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A rule about the records of a collection (store.md section 6.2).

    `where` maps field -> value that a candidate must have for the rule to apply (`unique`, `capacity`).
    """

    type: ConstraintType
    fields: tuple[str, ...]
    where: Mapping[str, JsonValue] = field(default_factory=dict, hash=False)

    @property
    def refers_to(self) -> str | None:
        """The collection that holds the ids of a `referential` constraint's field; None: nothing is checked."""
        named = self.where.get("collection") if self.type == "referential" else None
        return named if isinstance(named, str) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """A collection: `fields` by name in schema order, `indexes` and `scope` are names of fields, each once.

    `scope` includes the fields of the collection's sync rule. `also_scoped` are fields that somebody's scopes are
    decided by without the schema saying so.
    """

    name: str
    fields: Mapping[str, Field] = field(hash=False)
    indexes: tuple[str, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    scope: tuple[str, ...] = ()
    also_scoped: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Hex digest of all that the table depends on: columns, their kinds and defaults, indexes; not their order.

        Enum values, constraints and scope leave no trace in the table (this server writes no CHECK).
        """
        columns = {name: [one.kind, one.default] for name, one in self.fields.items()}
        return _digest([columns, sorted(self.indexes)])

    @property
    def scoped(self) -> tuple[str, ...]:
        """All fields that scopes are decided by."""
        return tuple(dict.fromkeys((*self.scope, *self.also_scoped)))

    @property
    def kinds(self) -> dict[str, Kind]:
        """Field name -> kind, in schema order."""
        return {name: one.kind for name, one in self.fields.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """`field` of the records in `from_collection` holds ids of records in `to_collection` (store.md section 6.3)."""

    name: str
    from_collection: str
    field: str
    to_collection: str
    on_delete: OnDelete


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncRule:
    """What of a collection a device asks for: `where` maps field -> key of the scope value (scopes.md section 6)."""

    collection: str
    where: Mapping[str, str] = field(hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """A schema: everything by name. `version` is 1 or more.

    `relations_to` maps a collection to the relations whose records point at it, in order of the relation's name; a
    collection without any is not in it.
    """

    version: int
    collections: Mapping[str, Collection] = field(hash=False)
    relations: Mapping[str, Relation] = field(default_factory=dict, hash=False)
    sync: Mapping[str, SyncRule] = field(default_factory=dict, hash=False)
    relations_to: Mapping[str, tuple[Relation, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_target: dict[str, tuple[Relation, ...]] = {}
        for _, relation in sorted(self.relations.items()):
            by_target[relation.to_collection] = (*by_target.get(relation.to_collection, ()), relation)
        object.__setattr__(self, "relations_to", by_target)

    def with_scopes(self, fields: Mapping[str, Iterable[str]]) -> Schema:
        """The schema with further fields that scopes are decided by: collection -> names; unknown ones are left out."""
        collections = {
            name: replace(one, also_scoped=tuple(f for f in fields.get(name, ()) if f in one.fields))
            for name, one in self.collections.items()
        }
        return replace(self, collections=collections)

    def lookups(self, collection: str) -> list[tuple[str, ...]]:
        """The fields by which the server looks records of a collection up, to hold constraints and references."""
        known = self.collections[collection]
        wanted = [one.fields for one in known.constraints if one.type in ("unique", "capacity") and one.fields]
        wanted += [
            (one.field,)
            for _, one in sorted(self.relations.items())
            if one.from_collection == collection and one.on_delete != "no-action"
        ]
        plain = [fields for fields in wanted if all(known.fields[name].kind in _INDEXED for name in fields)]
        return list(dict.fromkeys(plain))


_INDEXED: frozenset[Kind] = frozenset({"string", "enum", "number", "boolean", "timestamp"})
"""Kinds whose columns are compared as they are."""


def _digest(content: JsonValue) -> str:
    return sha256(canonical_json(content).encode()).hexdigest()
