"""Inputs to begin with: recorded traffic of stock clients, and the vectors of the reference implementation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.protobuf import to_binary

DATA = Path(__file__).parents[1] / "conformance" / "data"
SCHEMAS = sorted((DATA / "vectors" / "schemas").glob("*.json"))
_LONGEST = 20_000
"""Bytes of a seed: blobs are nothing but length."""


@cache
def recorded() -> dict[str, list[list[str]]]:
    """For each recording, what each of its clients said, as text."""
    found: dict[str, list[list[str]]] = {}
    for path in sorted((DATA / "wire").glob("*.jsonl")) + sorted((DATA / "scoped").glob("*.jsonl")):
        clients: dict[int, list[str]] = {}
        for line in map(json.loads, path.read_text("utf-8").splitlines()):
            if line.get("from") == "client" and "text" in line and "event" not in line:
                clients.setdefault(line["conn"], []).append(line["text"])
        found[path.stem] = [said for said in clients.values() if said]
    return found


@cache
def messages() -> list[bytes]:
    """One message of each kind and shape that stock clients send, as JSON texts."""
    kinds: dict[tuple[object, ...], bytes] = {}
    for clients in recorded().values():
        for text in (text for said in clients for text in said if len(text) < _LONGEST):
            value = _value(text)
            if isinstance(value, dict) and isinstance(value.get("type"), str) and "messageId" in value:
                kinds.setdefault(_shape(value), text.encode())
    return list(kinds.values())


def _shape(message: dict[str, Any]) -> tuple[object, ...]:
    operations = message.get("operations") or []
    names = {name for one in operations[:3] for name in (*one, *(one.get("data") or {}))}
    return (message["type"], *sorted(message), *sorted(names))


@cache
def binary_messages() -> list[bytes]:
    """The same as protobuf envelopes, as far as they have that form."""
    return list(_binary())


def _binary() -> Iterator[bytes]:
    for text in messages():
        try:
            value: Any = json.loads(text)
            yield to_binary(value)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue


@cache
def operations() -> list[bytes]:
    """Operations of clients and of the vectors, one of each shape, as JSON texts."""
    shapes: dict[tuple[object, ...], bytes] = {}
    sources = [*map(_value, messages()), *(vector(name) for name in ("apply-rejections", "materialise", "op-ids"))]
    for one in objects_in(sources):
        if {"id", "nodeId", "timestamp"} <= one.keys():
            shape = (one.get("type"), *sorted(one), *sorted(one.get("data") or {}))
            shapes.setdefault(shape, json.dumps(one).encode())
    return list(shapes.values())


def _value(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def objects_in(value: Any) -> Iterator[dict[str, Any]]:
    """All objects anywhere in a JSON value."""
    if isinstance(value, dict):
        yield value
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from objects_in(one)


def vector(name: str) -> Any:
    """A file of vectors."""
    return json.loads((DATA / "vectors" / f"{name}.json").read_text("utf-8"))
