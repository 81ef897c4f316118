"""TOML values as one line of text."""

from __future__ import annotations

from collections.abc import Mapping

import tomli_w


def toml_text(value: object) -> str:
    """A TOML value, written inline."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{toml_key(name)} = {toml_text(one)}" for name, one in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_text(one) for one in value)}]"
    return tomli_w.dumps({"value": value}).removeprefix("value = ").removesuffix("\n")


def toml_key(name: str) -> str:
    """A key, quoted when it has to be."""
    return tomli_w.dumps({name: 0}).removesuffix(" = 0\n")
