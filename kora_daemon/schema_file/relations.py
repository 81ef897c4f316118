"""Reads the relations of a schema file."""

from __future__ import annotations

from kora_daemon.model.schema import ON_DELETE, Relation
from kora_daemon.schema_file.names import Names, collection_name, field_name
from kora_daemon.schema_file.part import Part

_KEYS = ("from", "to", "type", "field", "onDelete")


def read_relations(part: Part, names: Names) -> dict[str, Relation]:
    """The relations that are in order."""
    if not part.is_given:
        return {}
    read = {name: _read_relation(one, name, names) for name, one in part.table("relations").items()}
    return {name: relation for name, relation in read.items() if relation is not None}


def _read_relation(part: Part, name: str, names: Names) -> Relation | None:
    """A relation, None when its action can't be told. Its type is informative and not kept."""
    if not isinstance(part.value, dict):
        part.unfit('a relation, such as { from = "tasks.projectId", to = "projects", onDelete = "cascade" }')
        return None
    part.reading(name).text("a name of the relation in whole characters")
    members = part.members("from, to and onDelete", *_KEYS)
    origin, field_part = _origin(members["from"], members["field"])
    from_collection = collection_name(origin, names)
    field = field_name(field_part, from_collection, names)
    to_collection = collection_name(members["to"], names)
    on_delete = members["onDelete"].one_of(ON_DELETE, "an action")
    for known in ON_DELETE:
        if known == on_delete:
            return Relation(
                name=name, from_collection=from_collection, field=field, to_collection=to_collection, on_delete=known
            )
    return None


def _origin(origin: Part, field: Part) -> tuple[Part, Part]:
    """Collection and field, written apart or as `tasks.projectId`."""
    if field.is_given or not isinstance(origin.value, str) or "." not in origin.value:
        return origin, field
    collection, _, name = origin.value.partition(".")
    return origin.reading(collection), origin.reading(name)
