"""From a TOML document and the environment to settings, noting every problem on the way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kora_daemon.config.interpolation import Unresolved, interpolate
from kora_daemon.config.keys import Key, Table, declared_in, environment_name, is_overridable
from kora_daemon.config.kinds import Unfit, read_toml
from kora_daemon.config.nearest import nearest_key, nearest_variable, variables
from kora_daemon.config.settings import Settings
from kora_daemon.config.toml_text import toml_text

_ABSENT = object()


class _VariableText(str):
    """The text of an environment variable that overrides a key."""

    __slots__ = ()


class Reader:
    """Reads one document.

    `problems` grows by one sentence for each thing that is wrong, `broken` by the path it is about, and `origins` tells
    where each value that is not a default came from.
    """

    def __init__(self, source: Path, environ: Mapping[str, str]) -> None:
        self.problems: list[str] = []
        self.broken: set[str] = set()
        self.origins: dict[str, str] = {}
        self._source = source
        self._base = source.absolute().parent
        self._overrides = {name: text for name, text in environ.items() if name.startswith("KORA_") and text}
        self._environ = environ

    def settings(self, document: Mapping[str, Any]) -> Settings:
        """The settings of a document; keys with a problem have their default."""
        self._refuse_unknown_variables()
        values = self._values(Settings, document, "")
        return Settings(**values, source=self._source, origins=self.origins)

    def refuse(self, path: str, sentence: str) -> None:
        """Note a problem of a value, with the place it came from."""
        self.broken.add(path)
        self.problems.append(f"{path} ({self._origin(path)}): {sentence}")

    def _origin(self, path: str) -> str:
        """Where the value at a path came from; what is inside an array of tables came with the array."""
        return self.origins.get(path) or self.origins.get(path.partition("[")[0]) or str(self._source)

    def _values(self, cls: type[Any], given: Mapping[str, Any], path: str) -> dict[str, Any]:
        """The fields of one table that can be built; what is left out has its default, or is missing."""
        declared = declared_in(cls)
        values: dict[str, Any] = {}
        for name, one in declared.items():
            here = _join(path, name)
            value = self._given(one, here, given.get(name, _ABSENT))
            found = self._key(one, value, here) if isinstance(one, Key) else self._table(one, value, here)
            if found is not _ABSENT:
                values[name] = found
        for name, value in given.items():
            if name not in declared:
                here = _join(path, name)
                word = "table" if isinstance(value, dict) else "key"
                self.refuse(here, f"there is no such {word}; {nearest_key(here)}")
        return values

    def _given(self, declared: Key | Table, path: str, in_file: object) -> object:
        """What was given for a path: by the environment, else by the file."""
        variable = environment_name(path) if is_overridable(declared) else None
        if variable in self._overrides:
            self.origins[path] = variable
            return _VariableText(self._overrides[variable])
        if in_file is not _ABSENT:
            self.origins[path] = self._origin(path)
        return in_file

    def _key(self, key: Key, value: object, path: str) -> object:
        if value is _ABSENT:
            if key.required:
                self.refuse(path, f"is missing, expected {key.kind.expects}")
            # A default is written as in a file, so that a default path starts in the file's folder, too.
            return _ABSENT if key.default is None else key.kind.parse(key.kind.dump(key.default), self._base)
        try:
            if isinstance(value, _VariableText):
                return key.kind.parse(key.kind.read(str(value)), self._base)
            return self._parse_from_file(key, value)
        except Unresolved as unresolved:
            self.refuse(path, str(unresolved))
        except Unfit as unfit:
            # The text as it is in the file: what ${NAME} stands for is never shown, it may be a secret.
            shown = _description(value) if key.secret else _shown(value)
            part = f"{unfit.at.removeprefix('.')} to be " if unfit.at else ""
            self.refuse(path, f"found {shown}, expected {part}{unfit.expected}")
        return _ABSENT

    def _parse_from_file(self, key: Key, value: object) -> object:
        resolved = interpolate(value, self._environ)
        try:
            return key.kind.parse(resolved, self._base)
        except Unfit:
            if resolved == value or not isinstance(resolved, str):
                raise
            # A text from the environment may stand for a number, true or false, or a list.
            return key.kind.parse(key.kind.read(resolved), self._base)

    def _table(self, table: Table, value: object, path: str) -> object:
        if table.form == "many":
            return self._tables(table, value, path)
        if value is _ABSENT:
            if table.form == "maybe" and not self._overridden(path):
                return _ABSENT
            value = {}
        if not isinstance(value, dict):
            self.refuse(path, f"found {_description(value)}, expected a table, written [{path}]")
            value = {}
        return self._build(table, value, path)

    def _tables(self, table: Table, value: object, path: str) -> object:
        if isinstance(value, _VariableText):
            value = read_toml(value)
        if value is _ABSENT:
            return _ABSENT
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            self.refuse(path, f"found {_description(value)}, expected a list of tables, each written [[{path}]]")
            return _ABSENT
        built = [self._build(table, one, f"{path}[{index}]") for index, one in enumerate(value)]
        return tuple(one for one in built if one is not _ABSENT)

    def _build(self, table: Table, given: Mapping[str, Any], path: str) -> object:
        values = self._values(table.cls, given, path)
        required = {name for name, one in declared_in(table.cls).items() if isinstance(one, Key) and one.required}
        return table.cls(**values) if required <= values.keys() else _ABSENT

    def _overridden(self, path: str) -> bool:
        prefix = f"{environment_name(path + '.')}"
        return any(name.startswith(prefix) for name in self._overrides)

    def _refuse_unknown_variables(self) -> None:
        for name in sorted(self._overrides.keys() - variables()):
            if "__" in name:
                self.problems.append(f"{name} (environment): there is no such setting; {nearest_variable(name)}")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _description(value: object) -> str:
    """What sort of value it is, without showing any of it."""
    names = {str: "a text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a table"}
    return next((name for sort, name in names.items() if isinstance(value, sort)), "a date or time")


def _shown(value: object) -> str:
    text = toml_text(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
