"""Settings without secrets, as TOML for people and as plain values for programs: `kora config show`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kora_daemon.config.keys import Key, Table, declared_in
from kora_daemon.config.settings import Settings
from kora_daemon.config.toml_text import toml_text


def effective_toml(settings: Settings) -> str:
    """The settings in force as TOML: secrets masked, paths absolute, and behind each value where it came from."""
    lines = ["# The settings in force. Values without a comment are defaults; secrets are masked."]
    lines += _table(settings, "", settings.origins)
    return "\n".join(lines) + "\n"


def effective_values(values: object) -> dict[str, Any]:
    """The same as plain values, all keys in their tables; None for what is not set. `values` are any table's."""
    shown: dict[str, Any] = {}
    for name, one in declared_in(type(values)).items():
        value = getattr(values, name)
        if isinstance(one, Key):
            shown[name] = None if value is None else _shown(one, value)
        elif one.form == "many":
            shown[name] = [effective_values(each) for each in value]
        else:
            shown[name] = None if value is None else effective_values(value)
    return shown


def _table(values: object, path: str, origins: Mapping[str, str]) -> Iterator[str]:
    """Keys first, then tables, as TOML wants it."""
    declared = declared_in(type(values)).items()
    for name, one in declared:
        if isinstance(one, Key):
            yield _key(one, name, getattr(values, name), origins.get(f"{path}.{name}" if path else name))
    for name, one in declared:
        if isinstance(one, Table):
            here = f"{path}.{name}" if path else name
            yield from _tables(one, getattr(values, name), here, origins)


def _key(key: Key, name: str, value: object, origin: str | None) -> str:
    if value is None:
        return f"# {name} is not set"
    shown = toml_text(_shown(key, value))
    return f"{name} = {shown}  # {origin}" if origin else f"{name} = {shown}"


def _shown(key: Key, value: object) -> object:
    dumped = key.kind.dump(value)
    return key.kind.mask(dumped) if key.secret else dumped


def _tables(table: Table, value: Any, path: str, origins: Mapping[str, str]) -> Iterator[str]:  # noqa: ANN401
    if table.form == "many":
        for index, one in enumerate(value):
            yield from ("", f"[[{path}]]", *_table(one, f"{path}[{index}]", origins))
    elif value is None:
        yield from ("", f"# [{path}] is not set")
    else:
        yield from ("", f"[{path}]", *_table(value, path, origins))
