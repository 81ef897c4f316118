"""Whole hostile sessions on decoded messages."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from random import Random
from typing import get_args

from kora_daemon.auth.scope_maps import checked_scopes
from kora_daemon.errors import AuthUnavailable
from kora_daemon.model.outcome import Rejection
from kora_daemon.model.scope import ScopeMap
from kora_daemon.protocol import events as on
from kora_daemon.protocol.handshake import clean_scope
from kora_daemon.protocol.rules import AcceptedScope
from kora_daemon.schema_file import load_schema
from kora_daemon.wire.frame import Frame
from kora_daemon.wire.lenient import read_operation
from tests.fuzz import seeds
from tests.fuzz.mutation import MAX_BYTES, mutated_bytes, mutated_json
from tests.fuzz.packed import mutated_packed
from tests.fuzz.rehearsal import Rehearsal
from tests.fuzz.target import Target

STEP = b"\x1e"
"""Between two steps of an input: the record separator, which no JSON text holds."""
_SCHEMA = load_schema(seeds.DATA / "wire" / "schema.json").with_scopes({"todos": ["title", "completed"]})
_MOST_STEPS = 60
_ACCEPTED = get_args(AcceptedScope)


def run(data: bytes) -> None:
    """A session, step by step. The first letter of a step says what happens in it."""
    first, *steps = data.split(STEP)
    rehearsal = Rehearsal(_SCHEMA, _grant(first[1:]), _ACCEPTED[(first or b"0")[0] % len(_ACCEPTED)])
    for step in steps[:_MOST_STEPS]:
        if rehearsal.is_over:
            return
        happen = _STEPS.get(step[:1])
        if happen is not None:
            happen(rehearsal, step[1:])
    rehearsal.passes(61_000)


def _grant(text: bytes) -> ScopeMap | None:
    """What a provider says, as far as the daemon lets it."""
    with suppress(ValueError, RecursionError, AuthUnavailable):
        return checked_scopes(clean_scope(json.loads(text)))
    return None


def _says_text(rehearsal: Rehearsal, text: bytes) -> None:
    with suppress(UnicodeDecodeError):
        text.decode()
        rehearsal.hear(Frame(text))


def _says_binary(rehearsal: Rehearsal, text: bytes) -> None:
    with suppress(ValueError):
        rehearsal.hear(Frame(bytes.fromhex(text.decode("ascii")), binary=True))


def _others_write(rehearsal: Rehearsal, text: bytes) -> None:
    """What another device has uploaded: only what the codec lets through."""
    with suppress(ValueError, RecursionError):
        read = read_operation(text.decode())
        if not isinstance(read, Rejection):
            rehearsal.others_write(read)


def _time_passes(rehearsal: Rehearsal, text: bytes) -> None:
    rehearsal.passes(int(text) if text.isdigit() and len(text) < 7 else 2_000)


def _is_renewed(rehearsal: Rehearsal, _text: bytes) -> None:
    rehearsal.happens(on.Renewal("come again"))


def _is_revoked(rehearsal: Rehearsal, _text: bytes) -> None:
    rehearsal.happens(on.Revoked())


def _drains(rehearsal: Rehearsal, _text: bytes) -> None:
    rehearsal.happens(on.Draining())


def _falls_silent(rehearsal: Rehearsal, _text: bytes) -> None:
    rehearsal.is_quiet = not rehearsal.is_quiet


def _store_fails(rehearsal: Rehearsal, _text: bytes) -> None:
    rehearsal.fails = not rehearsal.fails


_STEPS: dict[bytes, Callable[[Rehearsal, bytes], None]] = {
    b"T": _says_text,
    b"B": _says_binary,
    b"O": _others_write,
    b"+": _time_passes,
    b"N": _is_renewed,
    b"R": _is_revoked,
    b"D": _drains,
    b"Q": _falls_silent,
    b"F": _store_fails,
}


@cache
def seeds_of_sessions() -> list[bytes]:
    """What recorded clients said, with and without a grant."""
    made = []
    for number, said in enumerate(one for clients in seeds.recorded().values() for one in clients):
        grant = (b"", b'{"todos":{}}', b'{"todos":{"title":"x"},"accounts":{}}')[number % 3]
        steps = [b"%d%s" % (number % 3, grant), *(b"T" + text.encode() for text in said if len(text) < 9_000)]
        made.append(STEP.join(steps[:20]))
    texts = [STEP.join([b"0", *(b"T" + one for one in seeds.messages())])]
    binary = [STEP.join([b"1", *(b"B" + one.hex().encode() for one in seeds.binary_messages())])]
    return made + texts + binary


@cache
def _more() -> list[bytes]:
    steps = [b"+1", b"+2000", b"+10000", b"+61000", b"N", b"R", b"D", b"Q", b"F"]
    steps += [b"T" + one for one in seeds.messages()]
    steps += [b"B" + one.hex().encode() for one in seeds.binary_messages()]
    return steps + [b"O" + one for one in seeds.operations()] * 2


def _mutated_step(step: bytes, random: Random) -> bytes:
    letter, content = step[:1], step[1:]
    if letter == b"B":
        with suppress(ValueError):
            return b"B" + mutated_packed(bytes.fromhex(content.decode("ascii")), random).hex().encode()
    if letter in (b"T", b"O") or content[:1] == b"{":
        return letter + mutated_json(content, random).replace(STEP, b" ")
    return mutated_bytes(step, random)


def mutated(data: bytes, random: Random) -> bytes:
    """Steps changed in what they say, left out, repeated, moved, put in between."""
    first, *steps = data.split(STEP)
    for _ in range(random.choice([1, 1, 2, 4])):
        at = random.randrange(1, len(steps) + 1) if steps else 0
        match random.randrange(8):
            case 0:
                del steps[at : at + 1]
            case 1 if steps:
                steps[at:at] = steps[at - 1 : at] * random.choice([1, 1, 3])
            case 2 | 3:
                steps[at:at] = [random.choice(_more())]
            case 4:
                first = _mutated_step(first, random)
            case _ if steps:
                steps[at - 1] = _mutated_step(steps[at - 1], random)
    return STEP.join([first, *steps])[:MAX_BYTES]


TARGETS = [Target("session", run, seeds_of_sessions, mutated, share=12)]
