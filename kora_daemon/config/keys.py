"""The table of keys. A key of the file is one field of a dataclass, declared with one of the functions below.

From this one line come its parsing and its default, its environment variable, "did you mean", `kora config show`, the
sample file, docs/configuration.md, and whether a reload applies it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypeVar

from kora_daemon.config.kinds import Kind

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Key:
    """One key: `doc` is a sentence (with the unit), `example` a TOML value for one that has no default.

    `live`: whether it can change while the daemon runs; None = as its table.
    """

    kind: Kind[Any]
    doc: str
    default: Any = None
    example: Any = None
    required: bool = False
    secret: bool = False
    live: bool | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table of keys: `always` there, there when it is in the file (`maybe`), or an array of them (`many`).

    `live`: as of a key, for all keys below that don't say otherwise.
    """

    cls: type[Any]
    doc: str
    form: Literal["always", "maybe", "many"]
    live: bool | None = None


def key(kind: Kind[T], default: T, doc: str, *, live: bool | None = None) -> T:
    """A key with a default. `doc` is one sentence and names the unit."""
    return field(default=default, metadata={"kora": Key(kind, doc, default=default, live=live)})


def optional(kind: Kind[T], example: object, doc: str, *, secret: bool = False, live: bool | None = None) -> T | None:
    """A key that may be absent. A secret one is never shown, neither its value nor what was found in its place."""
    declared = Key(kind, doc, example=example, secret=secret, live=live)
    return field(default=None, metadata={"kora": declared}, repr=not secret)


def required(kind: Kind[T], example: object, doc: str, *, secret: bool = False) -> T:
    """A key that its table can't do without."""
    declared = Key(kind, doc, example=example, required=True, secret=secret)
    made: T = field(metadata={"kora": declared}, repr=not secret)
    return made


def table(cls: type[T], doc: str, *, live: bool | None = None) -> T:
    """A table that is always there, with its defaults."""
    return field(default_factory=cls, metadata={"kora": Table(cls, doc, "always", live)})


def optional_table(cls: type[T], doc: str) -> T | None:
    """A table that is None unless something in it is set."""
    return field(default=None, metadata={"kora": Table(cls, doc, "maybe")})


def tables(cls: type[T], doc: str) -> tuple[T, ...]:
    """An array of tables."""
    return field(default=(), metadata={"kora": Table(cls, doc, "many")})


def declared_in(cls: type[Any], *, live: bool = False) -> dict[str, Key | Table]:
    """The keys and tables of a table, by name, in the order of the file; `live` is that of the table itself."""
    found: dict[str, Key | Table] = {one.name: one.metadata["kora"] for one in fields(cls) if "kora" in one.metadata}
    return {name: replace(one, live=live) if one.live is None else one for name, one in found.items()}


def walk(cls: type[Any], path: str = "", *, live: bool = False) -> Iterator[tuple[str, Key | Table]]:
    """Every key and table below `cls` with its path in the file; members of an array of tables have `[]` in theirs."""
    for name, declared in declared_in(cls, live=live).items():
        here = f"{path}.{name}" if path else name
        yield here, declared
        if isinstance(declared, Table):
            below = f"{here}[]" if declared.form == "many" else here
            yield from walk(declared.cls, below, live=bool(declared.live))


def is_overridable(declared: Key | Table) -> bool:
    """Whether it takes a value of its own: keys do, and arrays of tables; a table's keys do it one by one."""
    return isinstance(declared, Key) or declared.form == "many"


def environment_name(path: str) -> str | None:
    """The variable that overrides a key or a whole array of tables; None when there is none.

    A variable has a double underscore between table and key, so that no other of the user's variables is mistaken for
    one; `KORA_SCHEMA` is the exception that config.md makes.
    """
    if "[" in path or ("." not in path and path != "schema"):
        return None
    return "KORA_" + path.upper().replace(".", "__")
