"""Changes to protobuf messages, by their fields: numbers, wire types, lengths that lie, messages in messages."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from tests.fuzz.mutation import MAX_BYTES, mutated_bytes, mutated_json, mutated_text
from tests.fuzz.odd import odd_text

_VARINT, _FIXED64, _TEXT, _FIXED32 = 0, 1, 2, 5
_VALUES = [
    0,
    1,
    2,
    127,
    128,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**53 - 1,
    2**53,
    2**53 + 1,
    2**63 - 1,
    2**63,
    2**64 - 1,
]
_MOST_FIELD = 34


class PackedField(NamedTuple):
    """A field as it stands in a message."""

    number: int
    wire_type: int
    value: int | bytes


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    text = bytearray()
    while number > 127:
        text.append(number & 127 | 128)
        number >>= 7
    return bytes([*text, number])


def read_fields(data: bytes) -> list[PackedField]:
    """The fields of a message. Raises ValueError or IndexError when it is none."""
    fields, at = [], 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        value: int | bytes
        if wire_type == _VARINT:
            value, at = _read_varint(data, at)
        elif wire_type == _TEXT:
            size, at = _read_varint(data, at)
            value, at = data[at : at + size], at + size
        elif wire_type in (_FIXED32, _FIXED64):
            size = 4 if wire_type == _FIXED32 else 8
            value, at = data[at : at + size], at + size
        else:
            raise ValueError("groups are not for us")
        if at > len(data):
            raise ValueError("it ends early")
        fields.append(PackedField(number, wire_type, value))
    return fields


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        number |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 128:
            return number, at


def write_fields(fields: list[PackedField], random: Random) -> bytes:
    """The bytes of a message; now and then a length lies, or a number takes more bytes than it needs."""
    text = bytearray()
    for number, wire_type, value in fields:
        text += varint(number << 3 | wire_type)
        if isinstance(value, int):
            written = varint(value % 2**64)
            text += written[:-1] + bytes([written[-1] | 128, 0]) if random.random() < 0.02 else written
        elif wire_type == _TEXT:
            size = len(value) + (random.choice([1, -1, 1_000, 2**31, 2**63]) if random.random() < 0.02 else 0)
            text += varint(max(size, 0)) + value
        else:
            text += value
    return bytes(text[:MAX_BYTES])


def mutated_packed(data: bytes, random: Random) -> bytes:
    """A protobuf message with some of its fields changed; what is none is changed as bytes."""
    try:
        fields = read_fields(data)
    except (ValueError, IndexError):
        return mutated_bytes(data, random)
    for _ in range(random.choice([1, 1, 2, 4])):
        _mutate_fields(fields, random)
    return write_fields(fields, random)


def _mutate_fields(fields: list[PackedField], random: Random) -> None:
    at = random.randrange(len(fields) + 1)
    match random.randrange(10):
        case 0:
            del fields[at : at + 1]
        case 1 if at < len(fields):
            fields[at:at] = [fields[at]] * random.choice([1, 2, 10, 1_001])
        case 2:
            fields.insert(at, PackedField(random.randrange(1, _MOST_FIELD), _VARINT, random.choice(_VALUES)))
        case 3:
            text = odd_text(random).encode("utf-8", "surrogatepass")
            fields.insert(at, PackedField(random.randrange(1, _MOST_FIELD), _TEXT, text))
        case 4 if at < len(fields):
            fields[at] = fields[at]._replace(number=random.choice([0, 1, 24, 34, 2**29 - 1, random.randrange(1, 34)]))
        case 5 if at < len(fields):
            fields[at] = PackedField(fields[at].number, random.choice([_FIXED32, _FIXED64, 3, 4, 6]), b"\1" * 8)
        case _ if at < len(fields):
            fields[at] = fields[at]._replace(value=_mutated_field(fields[at].value, random))


def _mutated_field(value: int | bytes, random: Random) -> int | bytes:
    if isinstance(value, int):
        return random.choice([*_VALUES, value + 1, value - 1])
    if value[:1] in (b"{", b"["):
        return mutated_json(value, random)
    if random.random() < 0.7 and _is_packed(value):
        return mutated_packed(value, random)
    try:
        return mutated_text(value.decode(), random).encode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return mutated_bytes(value, random)


def _is_packed(value: bytes) -> bool:
    try:
        return len(read_fields(value)) > 0
    except (ValueError, IndexError):
        return False
