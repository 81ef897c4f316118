"""Changes to an input: to its bytes, or to what it means."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from tests.fuzz.odd import LITERALS, TEXTS, deep, odd_text, odd_value, spelled, verbatim

Mutator = Callable[[bytes, Random], bytes]
MAX_BYTES = 1 << 18
"""Of an input: most of what goes wrong goes wrong with less, and a campaign is many inputs."""
_BYTES = [b"\0", b"\xff", b"\x7f", b"\x80", b"\xc0\xaf", b"\xed\xa0\x80", b"\n", b"\r\n", b'"', b"\\", b"\xef\xbb\xbf"]


def mutated_bytes(data: bytes, random: Random, words: Sequence[bytes] = ()) -> bytes:
    """A few bytes changed, left out, put in or said twice. `words` are what the format likes to hear."""
    changed = bytearray(data)
    for _ in range(random.choice([1, 1, 1, 2, 3, 8])):
        at = random.randrange(len(changed) + 1)
        span = random.choice([1, 1, 2, 4, 16, 64])
        match random.randrange(7):
            case 0 if at < len(changed):
                changed[at] ^= 1 << random.randrange(8)
            case 1 if at < len(changed):
                changed[at] = random.randrange(256)
            case 2:
                del changed[at : at + span]
            case 3:
                changed[at:at] = random.choice([*_BYTES, *words])
            case 4:
                changed[at:at] = changed[at : at + span] * random.choice([1, 2, 50])
            case 5:
                changed[at : at + span] = random.choice([*_BYTES, *words])
            case _:
                changed[at:at] = random.choice(LITERALS).encode()
    return bytes(changed[:MAX_BYTES])


def mutated_text(text: str, random: Random) -> str:
    """The same for characters, half ones included."""
    at, span = random.randrange(len(text) + 1), random.choice([0, 0, 1, 2, 8])
    part = random.choice([odd_text(random), random.choice(TEXTS), text[at : at + span] * 2, text * 3])
    return random.choice([text[:at] + part + text[at + span :], text[:at], part, text.upper(), text + " "])[:4_096]


def mutated_json(data: bytes, random: Random) -> bytes:
    """The same value but for some of its parts, perhaps spelled otherwise; what is no JSON is changed as bytes."""
    if random.random() < 0.1:
        return mutated_bytes(data, random)
    try:
        value = json.loads(data)
        for _ in range(random.choice([1, 1, 1, 2, 3])):
            value = mutated_value(value, random)
        return json_bytes(value, random)[:MAX_BYTES]
    except (ValueError, RecursionError):
        return mutated_bytes(data, random)


def mutated_value(value: Any, random: Random) -> Any:
    """A JSON value with one of its parts changed."""
    if isinstance(value, dict) and value and random.random() < 0.95:
        return _mutated_members(dict(value), random)
    if isinstance(value, list) and value and random.random() < 0.9:
        at = random.randrange(len(value))
        return value[:at] + _mutated_element(value[at], random) + value[at + 1 :]
    if isinstance(value, str) and value.startswith("\0"):
        return value  # verbatim
    if isinstance(value, str) and random.random() < 0.5:
        return mutated_text(value, random)
    if isinstance(value, int) and not isinstance(value, bool) and random.random() < 0.4:
        return random.choice([value + 1, value - 1, -value, float(value) if abs(value) < 2**53 else 0, str(value)])
    return odd_value(random)


def _mutated_members(members: dict[str, Any], random: Random) -> Any:
    name = random.choice(list(members))
    match random.randrange(24):
        case 0:
            del members[name]
        case 1:
            members[mutated_text(name, random)] = members.pop(name)
        case 2:
            return _twice(members, {name: odd_value(random)})
        case 3:
            return _twice({name: odd_value(random)}, members)
        case 4:
            members[odd_text(random)] = odd_value(random)
        case 5:
            members[name] = odd_value(random)
        case 6:
            members[name] = members[random.choice(list(members))]
        case _:
            members[name] = mutated_value(members[name], random)
    return members


def _twice(first: dict[str, Any], second: dict[str, Any]) -> str:
    """An object with the members of both, the same name twice."""
    return verbatim(f"{spelled(first)[:-1]},{spelled(second)[1:]}")


def _mutated_element(element: Any, random: Random) -> list[Any]:
    match random.randrange(8):
        case 0:
            return []
        case 1:
            return [element] * random.choice([2, 3, 20])
        case 2:
            return [element, odd_value(random)]
        case 3:
            return [deep(random)]
        case _:
            return [mutated_value(element, random)]


def json_bytes(value: Any, random: Random) -> bytes:
    """A value as JSON, in one of the ways that there are to write it."""
    text = spelled(value, escaped=random.random() < 0.6, space=random.choice(["", "", " ", "\n", "\t "]))
    try:
        return text.encode()
    except UnicodeEncodeError:  # half characters can be written in no other way than escaped, but for now and then
        return text.encode("utf-8", "surrogatepass") if random.random() < 0.05 else spelled(value).encode()


def mutated_lines(data: bytes, random: Random, mutate: Mutator, more: Sequence[bytes] = ()) -> bytes:
    """Lines, one of them changed, left out, repeated or moved; `more` are lines that may be put in."""
    lines = data.split(b"\n")
    for _ in range(random.choice([1, 1, 2, 4])):
        at = random.randrange(len(lines))
        match random.randrange(8):
            case 0:
                lines[at : at + 1] = []
            case 1:
                lines[at:at] = [lines[at]] * random.choice([1, 1, 2, 8])
            case 2:
                lines[at : at + 1] = [lines[random.randrange(len(lines))]]
            case 3 if more:
                lines[at:at] = [random.choice(more)]
            case _:
                lines[at] = mutate(lines[at], random)
        lines = lines or [b""]
    return b"\n".join(lines)[:MAX_BYTES]
