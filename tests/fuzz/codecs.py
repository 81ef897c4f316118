"""Both codecs, and what must be the same whichever way a message takes."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from random import Random
from typing import Any

from kora_daemon.model.clock import is_reading
from kora_daemon.model.delivery import DeliveryBatch
from kora_daemon.model.operation import MAX_SAFE_INTEGER, Operation, Timestamp, encode_operation
from kora_daemon.protocol import messages as say
from kora_daemon.protocol.events import Malformed, Unknown
from kora_daemon.wire import json as text_codec
from kora_daemon.wire import protobuf as binary_codec
from kora_daemon.wire.formats import BINARY, TEXT, Codec
from kora_daemon.wire.frame import Frame
from kora_daemon.wire.glimpse import glimpse
from kora_daemon.wire.lenient import read_leniently
from tests.fuzz.mutation import mutated_bytes, mutated_json
from tests.fuzz.packed import mutated_packed
from tests.fuzz.seeds import binary_messages, messages
from tests.fuzz.target import Disagreement, Target, same
from tests.support.operations import described, entry

Read = say.Message | Malformed | Unknown
_SHORT = 3
"""A limit of operations that some inputs exceed."""
_SKIPPED = ("nested too deeply", "Exceeds the limit")
"""Complaints about members that nobody wants: the typed decoder does not look at them."""


def run_json(data: bytes) -> None:
    """A text frame."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return  # the frame parser lets none through
    read = text_codec.decode(data)
    _both_readings_agree(read, read_leniently(data))
    _glimpse_agrees(Frame(data), read)
    _keeps_to_limit(read, text_codec.decode(data, _SHORT))
    _goes_out(read, TEXT)


def run_protobuf(data: bytes) -> None:
    """A binary frame."""
    read = binary_codec.decode(data)
    _glimpse_agrees(Frame(data, binary=True), read)
    _keeps_to_limit(read, binary_codec.decode(data, _SHORT))
    _goes_out(read, BINARY)


def _both_readings_agree(first: Read, second: Read) -> None:
    """The typed decoder takes less than the lenient one, and what it takes it takes in the same way."""
    if isinstance(second, Malformed) and any(words in str(second.error) for words in _SKIPPED):
        return
    if isinstance(first, Malformed | Unknown) or isinstance(second, Malformed | Unknown):
        same(type(first), type(second), "kinds of the two readings")
        same(str(getattr(first, "error", "")), str(getattr(second, "error", "")), "complaints of the two readings")
        return
    with suppress(RecursionError):  # too deep to be compared, not to be read
        same(_content(first), _content(second), "the two readings")


def _content(message: say.Message) -> Any:
    if isinstance(message, say.OperationBatch):
        operations = [one for one in message.operations if is_exact(one.timestamp)]  # others are refused anyway
        malformed = message.malformed if isinstance(message, say.DamagedBatch) else []
        refused = [one for one in malformed if one.code != "INVALID_TIMESTAMP"]
        head = (message.message_id, message.is_final, message.batch_index, message.size_bytes)
        return (*head, described(operations), described(refused))
    return described(message)


def is_exact(timestamp: Timestamp) -> bool:
    """Whether it is a clock reading that JavaScript holds as it is written; others are too far ahead for anybody."""
    return is_reading(timestamp) and max(timestamp.wall_time, timestamp.logical) <= MAX_SAFE_INTEGER


def _glimpse_agrees(frame: Frame, read: Read) -> None:
    seen = glimpse(frame)
    if isinstance(read, Malformed):
        return
    if seen is None:
        raise Disagreement("a message of which a glimpse sees nothing")
    if isinstance(read, Unknown):
        return
    same(seen.message_id, read.message_id, "the message id in a glimpse")
    same(seen.is_handshake, isinstance(read, say.Handshake), "whether a glimpse sees a handshake")
    same(seen.is_upload, isinstance(read, say.OperationBatch), "whether a glimpse sees an upload")
    if isinstance(read, say.Handshake):
        same(seen.auth_token or None, read.auth_token or None, "the token in a glimpse")


def _keeps_to_limit(read: Read, limited: Read) -> None:
    if isinstance(limited, Malformed) and limited.error.code == "BATCH_TOO_LARGE":
        if not isinstance(read, say.OperationBatch | Malformed):
            raise Disagreement("a batch that is none but too large")
        return
    same(type(limited), type(read), "kinds with and without a limit")


def _goes_out(read: Read, codec: Codec) -> None:
    """Whatever was read can be said, and is then read as it was."""
    if isinstance(read, Malformed):
        str(read.error).encode()
        codec.encode(say.ErrorMessage("m", read.error.code, str(read.error), False))
        return
    if isinstance(read, Unknown):
        return
    if isinstance(read, say.OperationBatch):
        for rejection in read.malformed if isinstance(read, say.DamagedBatch) else []:
            members = [getattr(rejection, field) for field in rejection.__struct_fields__]
            for either in (TEXT, BINARY):
                either.encode(say.OperationRejected("m", *members))
        _batch_goes_out(read.operations)
        return
    if isinstance(read, say.AwarenessUpdate) and not math.isfinite(read.client_id):
        return  # goes no further, see `server.rooms`
    if not isinstance(read, say.Handshake | say.ErrorMessage | say.Acknowledgment | say.BlobPush):
        frame = codec.encode(read)
        again = (binary_codec if frame.binary else text_codec).decode(frame.payload)
        if isinstance(again, Malformed | Unknown):
            raise Disagreement(f"what went out is {again}")
        same(_content(again), _content(read), "a message passed on")


def _batch_goes_out(operations: list[Operation]) -> None:
    """An uploaded batch is delivered in both forms, and read from both as what it was."""
    entries = [entry(n, body=encode_operation(one)) for n, one in enumerate(operations, 1)]
    batch = DeliveryBatch("m-1", entries, True, 0)
    text = text_codec.decode(text_codec.encode_batch(batch).payload)
    binary = binary_codec.decode(binary_codec.encode_batch(batch).payload)
    if not isinstance(text, say.OperationBatch) or not isinstance(binary, say.OperationBatch):
        raise Disagreement(f"what was delivered is read as {text} and {binary}")
    same(_clean(text), described(operations), "operations delivered as text")
    plain = [one for one in operations if _fits(one)]
    if len(plain) == len(operations):
        same([_meaning(one) for one in binary.operations], [_meaning(one) for one in plain], "delivered as protobuf")


def _clean(batch: say.OperationBatch) -> Any:
    if isinstance(batch, say.DamagedBatch) and batch.malformed:
        raise Disagreement(f"operations that were taken are malformed when delivered: {batch.malformed[0].message}")
    return described(batch.operations)


def _fits(operation: Operation) -> bool:
    """Whether the numbers of an operation have a place in protobuf, and its reserved names are free."""
    timestamp = operation.timestamp
    return (
        is_exact(timestamp)
        and timestamp.logical < 2**32
        and operation.schema_version < 2**31
        and b"__kora" not in bytes(operation.data).replace(b"\\u005f", b"_").replace(b"\\u005F", b"_")
        and b"\\u00" not in bytes(operation.data)
        and bool(operation.node_id and operation.id)
    )


def _meaning(operation: Operation) -> Any:
    """What an operation says to a client that gets it as protobuf: without data there are no intents."""
    said = described(operation)
    members = {name: json.loads(one) if isinstance(one, bytes) else one for name, one in said.items()}
    if not members["data"]:
        members["data"] = None
        members["atomic_ops"] = None
    for name in ("atomic_ops", "transaction_id", "mutation_name"):
        if not members[name] or not isinstance(members[name], str | dict):
            members[name] = None
    return members


def mutated_binary_frame(data: bytes, random: Random) -> bytes:
    """A binary frame, changed in its fields or its bytes."""
    return mutated_packed(data, random) if random.random() < 0.85 else mutated_bytes(data, random)


TARGETS = [
    Target("json", run_json, messages, mutated_json, share=40),
    Target("protobuf", run_protobuf, binary_messages, mutated_binary_frame, share=32),
]
