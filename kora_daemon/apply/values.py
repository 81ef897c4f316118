"""Whether the values in an operation are those that its fields can have (store.md section 6.1, point 2)."""

from __future__ import annotations

from kora_daemon.model.jsvalue import JsonValue
from kora_daemon.model.schema import Collection


def value_problem(collection: Collection, data: JsonValue) -> str | None:
    """What is wrong with the data of an operation of the schema's own version, in words; None when all is well.

    A device that receives a value of another kind fails on its own checks, and its sync stalls for good. Fields that
    the schema does not know are none of our business: among them the one that carries encrypted data.
    """
    if not isinstance(data, dict):
        return None
    fields = collection.fields
    for name, value in data.items():
        field = fields.get(name)
        if field is not None and not field.admits(value):
            return f"{collection.name}.{name} must be {field.expects}"
    return None
