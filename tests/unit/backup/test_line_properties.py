"""A line of any bytes, in a file whose checksum is right: an operation or a `BackupError`, and both readers agree."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kora_daemon.backup import BackupError
from kora_daemon.model.operation import Operation
from kora_daemon.model.structure import structure_problem
from tests.support.operations import wire_operation
from tests.unit.backup.backup_files import line, sealed, verified

LINE = line(
    1, atomicOps={"n": {"type": "increment", "value": 1}}, transactionId="tx", causalDeps=["op-0"], previousData={}
)[:-1]
MEMBERS = ["id", "nodeId", "type", "recordId", "data", "previousData", "timestamp", "sequenceNumber", "causalDeps"]

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(["\ud800", 1.0, 2**53]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)
pieces = st.binary(max_size=3) | st.sampled_from(
    [b'"', b"\\", b"{", b"}", b"[", b",", b"\\ud800", b"1e9", b" ", b"null"]
)


@given(st.integers(0, len(LINE)), st.integers(0, 12), pieces)
def test_a_mangled_line(position: int, lost: int, inserted: bytes) -> None:
    mangled = LINE[:position] + inserted.replace(b"\n", b"") + LINE[position + lost :]
    _agrees_with_the_standard_library(mangled)


@given(st.sampled_from([*MEMBERS, "schemaVersion", "atomicOps", "transactionId", "mutationName"]), json_values)
def test_a_member_of_any_value(name: str, value: object) -> None:
    _agrees_with_the_standard_library(json.dumps(wire_operation() | {name: value}).encode())


def _agrees_with_the_standard_library(text: bytes) -> None:
    if not text.strip(b" \t\r"):
        return
    read = _read(text)
    value = _value(text)
    if value is None or structure_problem(value) is not None:
        assert read is None
    elif read is not None:
        assert (read.id, read.sequence_number) == (value["id"], value["sequenceNumber"])
        for raw, name in ((read.data, "data"), (read.previous_data, "previousData")):
            assert json.dumps(json.loads(bytes(raw))) == json.dumps(value.get(name))
    else:
        timestamp = value["timestamp"]
        assert not 0 <= timestamp["wallTime"] < 10**15 or not 0 <= timestamp["logical"] <= 99_999


def _read(text: bytes) -> Operation | None:
    try:
        (read,) = verified(sealed(text + b"\n", operationCount=1)).operations()
    except BackupError as error:
        if error.kind != "operation":
            raise
        return None
    return read


def _value(text: bytes) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        return json.loads(text.decode(), parse_constant=refuse)
    except ValueError:
        return None
