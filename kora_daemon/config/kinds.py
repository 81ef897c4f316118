"""What values a key can take: how one is read from TOML and from the environment, checked, and written again.

Each kind also says what a JSON Schema can say of it, for editors (`config.json_schema`). That refuses nothing that
`parse` takes, and takes no other sorts of values; within a sort, `parse` is the judge.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")

JsonSchema = Mapping[str, Any]

MASKED = "***"
MOST_SECONDS = 86_400.0
MOST_BYTES = 2**31 - 1
MOST_INTEGER = 2**53 - 1
"""Bounds where nothing else bounds a number: a day, what a C int holds, what JavaScript holds exactly."""
REFERENCE: JsonSchema = {"$ref": "#/$defs/reference"}
"""A text that refers to the environment: what it stands for, only `parse` sees."""


class Unfit(Exception):
    """A value that is not of its kind: `expected` says what would be, `at` which part of the value it is about."""

    def __init__(self, expected: str, at: str = "") -> None:
        super().__init__(expected)
        self.expected = expected
        self.at = at


def _same(value: T) -> T:
    return value


def _hide(value: object) -> object:
    del value
    return MASKED


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """A kind of value.

    `expects` completes "expected …". `parse` takes a TOML value and the folder that relative paths start from, and
    raises `Unfit`. `read` turns the text of an environment variable into a TOML value, as well as it can: `parse`
    judges it. `dump` is the TOML value that parses to the given one, `mask` what may be shown of it when it is secret.
    `schema` describes what `parse` takes, and texts in it that refer to the environment.
    `is_file`: the value is the path of a file that is read, so what is in there is a part of the configuration.
    """

    expects: str
    parse: Callable[[object, Path], T]
    read: Callable[[str], object] = _same
    dump: Callable[[T], object] = _same
    mask: Callable[[Any], object] = _hide
    schema: JsonSchema = field(default_factory=dict)
    is_file: bool = False


def text_schema(**constraints: object) -> JsonSchema:
    """Texts with these properties, and those that refer to the environment."""
    return any_of({"type": "string", **constraints}, REFERENCE)


def any_of(*schemas: JsonSchema) -> JsonSchema:
    """Values of any of these schemas."""
    return {"anyOf": list(schemas)}


def kind_of_text(expects: str, fits: Callable[[str], bool], schema: JsonSchema | None = None) -> Kind[str]:
    """Texts for which `fits` holds; the empty one is none of them."""

    def parse(value: object, base: Path) -> str:
        del base
        if not isinstance(value, str) or not fits(value):
            raise Unfit(expects)
        return value

    return Kind(expects, parse, schema={"type": "string", "minLength": 1} if schema is None else schema)


def text() -> Kind[str]:
    """Any text but the empty one."""
    return kind_of_text("a text that is not empty", bool)


def choice(*allowed: str) -> Kind[str]:
    """One of these texts."""
    *others, last = (f'"{one}"' for one in allowed)
    return kind_of_text(f"{', '.join(others)} or {last}", allowed.__contains__, text_schema(enum=list(allowed)))


def flag() -> Kind[bool]:
    """True or false; from the environment also 1, 0, yes, no, on and off."""
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}

    def parse(value: object, base: Path) -> bool:
        del base
        if not isinstance(value, bool):
            raise Unfit("true or false")
        return value

    return Kind(
        "true or false",
        parse,
        read=lambda given: words.get(given.strip().lower(), given),
        schema={"type": "boolean"},
    )


def integer(low: int, high: int | None = None) -> Kind[int]:
    """A whole number from `low` to `high`, both included."""
    expects = f"a whole number of {low} or more" if high is None else f"a whole number from {low} to {high}"

    def parse(value: object, base: Path) -> int:
        del base
        if not isinstance(value, int) or isinstance(value, bool) or value < low or (high is not None and value > high):
            raise Unfit(expects)
        return value

    most = {} if high is None else {"maximum": high}
    return Kind(expects, parse, read=read_toml, schema={"type": "integer", "minimum": low, **most})


def number(low: float, high: float, *, above: bool = False) -> Kind[float]:
    """A number from `low` to `high`; with `above`, `low` itself is excluded. A whole number is one too."""
    expects = f"a number above {low:g}, at most {high:g}" if above else f"a number from {low:g} to {high:g}"

    def parse(value: object, base: Path) -> float:
        del base
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise Unfit(expects)
        # Not a number lies nowhere, so this refuses it, too.
        if not low <= value <= high or (above and value == low):
            raise Unfit(expects)
        return float(value)

    least = {"exclusiveMinimum": low} if above else {"minimum": low}
    return Kind(expects, parse, read=read_toml, schema={"type": "number", **least, "maximum": high})


def list_of(member: Kind[T], expects: str, *, least: int = 0, most: float = math.inf) -> Kind[tuple[T, ...]]:
    """A list of `least` to `most` members; from the environment a TOML list, or members between commas."""

    def parse(value: object, base: Path) -> tuple[T, ...]:
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise Unfit(expects)
        return tuple(_member(member, one, base, f"[{index}]") for index, one in enumerate(value))

    def read(given: str) -> object:
        value = read_toml(given)
        return value if isinstance(value, list) else [member.read(part.strip()) for part in given.split(",")]

    return Kind(
        expects,
        parse,
        read=read,
        dump=lambda values: [member.dump(one) for one in values],
        mask=lambda values: [member.mask(one) for one in values],
        schema=_list_schema(member.schema, least, most),
    )


def _list_schema(member: JsonSchema, least: int, most: float) -> JsonSchema:
    schema: dict[str, Any] = {"type": "array", "items": member}
    if least:
        schema["minItems"] = least
    if most < math.inf:
        schema["maxItems"] = most
    return schema


def one_or_more(member: Kind[T], expects: str, *, comma: bool = True) -> Kind[tuple[T, ...]]:
    """One value, or a list of them; `comma` = False for values in which a comma means nothing (secrets)."""
    several = list_of(member, expects, least=1)

    def parse(value: object, base: Path) -> tuple[T, ...]:
        return several.parse(value, base) if isinstance(value, list) else (member.parse(value, base),)

    def read(given: str) -> object:
        if comma and "," in given:
            return several.read(given)
        value = read_toml(given)
        return value if isinstance(value, list) else member.read(given)

    def dump(values: tuple[T, ...]) -> object:
        return member.dump(values[0]) if len(values) == 1 else several.dump(values)

    return Kind(expects, parse, read=read, dump=dump, schema=any_of(member.schema, several.schema))


def table_of(member: Kind[T], expects: str) -> Kind[Mapping[str, T]]:
    """A TOML table with free keys, whose values are of one kind; from the environment an inline table."""

    def parse(value: object, base: Path) -> Mapping[str, T]:
        if not isinstance(value, dict):
            raise Unfit(expects)
        return {name: _member(member, one, base, f".{name}") for name, one in value.items()}

    return Kind(
        expects,
        parse,
        read=read_toml,
        dump=lambda values: {name: member.dump(one) for name, one in values.items()},
        mask=lambda values: {name: member.mask(one) for name, one in values.items()},
        schema={"type": "object", "additionalProperties": member.schema},
    )


def _member(member: Kind[T], value: object, base: Path, at: str) -> T:
    try:
        return member.parse(value, base)
    except Unfit as unfit:
        raise Unfit(unfit.expected, at + unfit.at) from None


def read_toml(given: str) -> object:
    """The TOML value that this text writes; the text itself when it writes none."""
    try:
        document = tomllib.loads(f"value = {given.strip()}")
    except (ValueError, RecursionError):
        return given
    return document["value"] if len(document) == 1 else given
