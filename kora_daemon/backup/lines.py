"""One operation on one line (store.md section 9)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from kora_daemon.model.operation import Operation, Timestamp

MAX_LINE_BYTES = 64 * 1_024 * 1_024
"""Without the newline. A line is held in memory."""

_TEXTS = re.compile(rb'("(?:[^"\\]++|\\.)*+"?)', re.DOTALL)
"""Matches from any quote on, so that a text without an end is not looked for again from each quote inside it."""
_SPACE = b" \t\n\r"
_NOTHING = (b"null", b"{}")
_encode = msgspec.json.encode


class _Line(Struct, rename="camel", gc=False):
    """The members in the order of the format."""

    id: str
    node_id: str
    type: str
    collection: str
    record_id: str
    data: Raw
    previous_data: Raw
    timestamp: Timestamp
    sequence_number: int
    causal_deps: list[str]
    schema_version: int
    transaction_id: str | UnsetType
    mutation_name: str | UnsetType
    atomic_ops: Raw | UnsetType


def operation_line(operation: Operation) -> bytes:
    """The line of an operation, newline included. The raw texts stand in it as the author wrote them.

    Except for one that the author broke into lines: it loses the white space between its tokens, and nothing else.
    Raises ValueError (UnicodeEncodeError) for a name that holds half a character.
    """
    atomic_ops = operation.atomic_ops
    line = _Line(
        operation.id,
        operation.node_id,
        operation.type,
        operation.collection,
        operation.record_id,
        operation.data,
        operation.previous_data,
        operation.timestamp,
        operation.sequence_number,
        operation.causal_deps,
        operation.schema_version,
        UNSET if operation.transaction_id is None else operation.transaction_id,
        UNSET if operation.mutation_name is None else operation.mutation_name,
        UNSET if isinstance(atomic_ops, UnsetType) or bytes(atomic_ops) in _NOTHING else atomic_ops,
    )
    text = _encode(line)
    # Texts escape their newlines: one that is found stands between the tokens of a raw member.
    if b"\n" in text:
        line.data = _in_one_line(line.data)
        line.previous_data = _in_one_line(line.previous_data)
        if not isinstance(line.atomic_ops, UnsetType):
            line.atomic_ops = _in_one_line(line.atomic_ops)
        text = _encode(line)
    return text + b"\n"


def _in_one_line(text: Raw) -> Raw:
    broken = bytes(text)
    if b"\n" not in broken:
        return text
    parts = _TEXTS.split(broken)
    parts[::2] = [between.translate(None, _SPACE) for between in parts[::2]]
    return Raw(b"".join(parts))


def split_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a text that comes in chunks, without their newlines, empty ones included.

    Of a line with more than `MAX_LINE_BYTES`, that many and one more are given.
    """
    begun = bytearray()
    for chunk in chunks:
        end, *lines = chunk.split(b"\n")
        begun += end[: MAX_LINE_BYTES + 1 - len(begun)]
        for line in lines:
            yield bytes(begun)
            begun = bytearray(line)
    yield bytes(begun)
