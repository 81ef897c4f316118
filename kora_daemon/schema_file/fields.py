"""Reads the fields of a collection: descriptors as the builders of `@korajs/core` make them, and their short forms."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from kora_daemon.model.schema import KINDS, RESERVED_FIELDS, Field, Kind
from kora_daemon.schema_file.names import refuse_lookalikes
from kora_daemon.schema_file.part import Part
from kora_daemon.schema_file.states import check_transitions

_NAME = re.compile("[a-z][a-zA-Z0-9_]*")
_KIND_TEXT = re.compile(r"(?P<word>[^\[\]?]*)(?P<list>\[])?\??")
_A_KIND = "a kind"

_OF_ONE_KIND: Mapping[str, Kind] = {
    "enumValues": "enum",
    "itemKind": "array",
    "nestedFields": "object",
    "transitions": "enum",
    "secretMode": "secret",
}
_SHORT = {
    "default": "defaultValue",
    "values": "enumValues",
    "items": "itemKind",
    "fields": "nestedFields",
    "merge": "mergeStrategy",
}
_KEYS = ("kind", "required", "defaultValue", "auto", "mergeStrategy", *_OF_ONE_KIND)


def read_fields(part: Part) -> dict[str, Field]:
    """The fields in `part` that are in order."""
    named = part.table("fields")
    if part.value == {}:
        part.unfit("at least one field")
    fields: dict[str, Field] = {}
    for name, one in named.items():
        _check_name(name, one)
        if field := read_field(one, name):
            fields[name] = field
    refuse_lookalikes(named)
    return fields


def _check_name(name: str, part: Part) -> None:
    if name.lower() in RESERVED_FIELDS:
        part.refuse(f"the name {name.lower()} is reserved; choose another")
    elif not _NAME.fullmatch(name):
        part.reading(name).unfit("a name of a to z, A to Z, 0 to 9 and _ that begins with a small letter")


def read_field(part: Part, name: str) -> Field | None:
    """One field, None when its kind or its values can't be told."""
    if isinstance(part.value, str):
        kind = _kind(part)
        if kind == "enum":
            part.refuse('an enum needs its values, written ["one", "another"]')
        return Field(name=name, kind=kind) if kind and kind != "enum" else None
    if isinstance(part.value, list):
        values = _enum_values(part)
        return Field(name=name, kind="enum", enum_values=values) if values else None
    if isinstance(part.value, dict):
        return _read_descriptor(part, name)
    part.unfit('a field, such as "string" or { kind = "string" }')
    return None


def _read_descriptor(part: Part, name: str) -> Field | None:
    members = _members(part)
    for key in ("required", "auto"):
        members[key].flag()
    for key in ("mergeStrategy", "secretMode"):
        if members[key].is_given:
            members[key].text("a text")
    if members["itemKind"].is_given:
        members["itemKind"].one_of(KINDS, _A_KIND)
    if members["nestedFields"].is_given:
        for nested_name, nested in members["nestedFields"].table("fields").items():
            read_field(nested, nested_name)
    kind = _kind_of(members)
    if kind is None:
        return None
    for key, owner in _OF_ONE_KIND.items():
        if members[key].is_given and kind != owner:
            members[key].refuse(f"is for the kind {owner} only, this is {kind}")
    return _with_values(Field(name=name, kind=kind), members)


def _members(part: Part) -> dict[str, Part]:
    """The members of a descriptor under their long names."""
    members = part.members("a kind and what belongs to it", *_KEYS, *_SHORT)
    for short, long in _SHORT.items():
        given = members.pop(short)
        if given.is_given and members[long].is_given:
            given.refuse(f"is short for {long}, which is there too; leave one of them out")
        elif given.is_given:
            members[long] = given
    return members


def _kind_of(members: Mapping[str, Part]) -> Kind | None:
    """The kind that is written there, else the one that something else in the descriptor is for."""
    if members["kind"].is_given:
        return _kind(members["kind"])
    implied = [kind for key, kind in _OF_ONE_KIND.items() if members[key].is_given]
    return implied[0] if implied else _kind(members["kind"])


def _kind(part: Part) -> Kind | None:
    """A kind in words: `string`, optional `string?`, a list `string[]`."""
    match = _KIND_TEXT.fullmatch(part.value) if isinstance(part.value, str) else None
    for kind in KINDS:
        if match and match["word"] == kind:
            return "array" if match["list"] else kind
    part.one_of(KINDS, _A_KIND)
    return None


def _with_values(field: Field, members: Mapping[str, Part]) -> Field | None:
    """The field with the values and the default of its descriptor, None when it lacks values that it needs."""
    if field.kind == "enum":
        field = replace(field, enum_values=_enum_values(members["enumValues"]))
        if not field.enum_values:
            return None
        if members["transitions"].is_given:
            check_transitions(members["transitions"], field.enum_values)
    default = members["defaultValue"].json()
    # Bytes, a default of rich text only, print in too many ways in JSON, as {} when there are none.
    if field.kind != "richtext" and not field.admits(default):
        members["defaultValue"].unfit(field.expects)
    return replace(field, default=default)


def _enum_values(part: Part) -> tuple[str, ...]:
    expected = "a list of one or more texts"
    if not isinstance(part.value, list) or not part.value:
        part.unfit(expected)
    return tuple(dict.fromkeys(one.text("a text", least=0) for one in part.elements(expected)))
