"""Properties: what is written comes back, and nothing else is ever read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from kora_daemon.backup import BackupError
from kora_daemon.model.operation import MAX_SAFE_INTEGER, NULL, Operation, Timestamp
from tests.support.operations import operation
from tests.unit.backup.backup_files import exported, joined, sections_of, verified

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
spaces = st.sampled_from(["", "", "", " ", "\n", "\r\n\t", "\r"])
texts = st.builds(
    json.dumps,
    st.text(st.characters() | st.sampled_from(["\ud800", "\udc00", "\n", '"', "\\", " "]), max_size=6),
    ensure_ascii=st.just(True),
) | st.sampled_from(['"\\/"', '"\\uD83D\\uDE00"', '"\\ud83d"', '"é\u2028"', '" \\" : \\\\"'])
numbers = st.integers().map(str) | st.sampled_from(["-0", "1.50", "1E+2", "1e999", "12345678901234567890123", "0.1e-7"])
scalars = texts | numbers | st.sampled_from(["null", "true", "false"])


@st.composite
def spaced_object(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    members = [
        "".join((draw(spaces), name, draw(spaces), ":", draw(spaces), value, draw(spaces)))
        for name, value in draw(st.lists(st.tuples(texts, values), max_size=4))
    ]
    return "{" + (",".join(members) or draw(spaces)) + "}"


@st.composite
def spaced_list(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    members = [f"{draw(spaces)}{value}{draw(spaces)}" for value in draw(st.lists(values, max_size=4))]
    return "[" + (",".join(members) or draw(spaces)) + "]"


values = st.recursive(scalars, lambda inner: spaced_object(inner) | spaced_list(inner), max_leaves=6)
objects = spaced_object(values).map(lambda text: Raw(text.encode()))
atomic_ops = st.builds(
    lambda name, space, kind, value: Raw(f'{{{name}:{space}{{"type":"{kind}",{space}"value":{value}}}}}'.encode()),
    texts,
    spaces,
    st.sampled_from(["append", "remove"]),
    values,
)
operations = st.builds(
    Operation,
    id=names,
    node_id=names,
    type=st.sampled_from(["insert", "update", "delete"]),
    collection=names,
    record_id=names,
    timestamp=st.builds(Timestamp, st.integers(0, 10**15 - 1), st.integers(0, 99_999), names),
    sequence_number=st.integers(0, MAX_SAFE_INTEGER),
    causal_deps=st.lists(names, max_size=3),
    schema_version=st.integers(1, MAX_SAFE_INTEGER),
    data=st.just(NULL) | objects,
    previous_data=st.just(NULL) | objects,
    atomic_ops=st.just(UNSET) | atomic_ops,
    transaction_id=st.just(UNSET) | st.just("") | names,
    mutation_name=st.just(UNSET) | names,
)
vectors = st.dictionaries(names, st.integers(0, MAX_SAFE_INTEGER), max_size=5)


@given(st.lists(operations, max_size=5), vectors, names)
def test_a_log_comes_back(log: list[Operation], vector: dict[str, int], node_id: str) -> None:
    backup = verified(exported(*log, vector=vector, node_id=node_id))
    read = list(backup.operations())
    assert backup.operation_count == len(log)
    assert backup.version_vector == vector
    assert backup.node_id == node_id
    assert [_members(operation) for operation in read] == [_members(operation) for operation in log]
    # What has come back is written as it was.
    assert exported(*read, vector=vector, node_id=node_id) == exported(*log, vector=vector, node_id=node_id)


def _members(operation: Operation) -> dict[str, Any]:
    """All members, raw texts as they are in a backup."""
    members = {name: getattr(operation, name) for name in operation.__struct_fields__}
    return {
        name: _in_one_line(bytes(value).decode()) if isinstance(value, Raw) else value
        for name, value in members.items()
    }


def _in_one_line(text: str) -> str:
    """Told another way than in the code: letter by letter."""
    if "\n" not in text:
        return text
    kept, inside, escaped = "", False, False
    for letter in text:
        if inside or letter not in " \t\r\n":
            kept += letter
        if letter == '"' and not escaped:
            inside = not inside
        escaped = letter == "\\" and not escaped
    return kept


SMALL = exported(
    operation(1, previous_data=Raw(b'{"half":"\\ud800"}')),
    operation(2, atomic_ops=Raw(b'{"n":{"type":"max","value":1}}'), transaction_id="tx"),
)
MANIFEST = range(SMALL.index(b"{"), SMALL.index(b"}") + 1)


@pytest.mark.parametrize("mask", [0x01, 0x02, 0x20, 0x80, 0xFF])
def test_a_changed_byte_is_refused_wherever_it_is(mask: int) -> None:
    for position in range(len(SMALL)):
        _refused_or_unprotected(position, mask)


@given(st.integers(0, len(SMALL) - 1), st.integers(1, 255))
def test_any_changed_byte_is_refused(position: int, mask: int) -> None:
    _refused_or_unprotected(position, mask)


def _refused_or_unprotected(position: int, mask: int) -> None:
    changed = bytearray(SMALL)
    changed[position] ^= mask
    try:
        backup = verified(bytes(changed))
    except BackupError:
        return
    # No checksum covers the manifest; what it says of the log is checked, who wrote it and when can't be.
    assert position in MANIFEST
    whole = verified(SMALL)
    assert (list(backup.operations()), backup.version_vector) == (list(whole.operations()), whole.version_vector)
    assert backup.operation_count == 2


def test_a_truncated_file_is_refused_wherever_it_ends() -> None:
    for size in range(len(SMALL)):
        with pytest.raises(BackupError) as refused:
            verified(SMALL[:size])
        assert refused.value.kind == ("not-a-backup" if size < 8 else "incomplete")


@given(st.integers(0, len(SMALL)), st.binary(min_size=1, max_size=40))
def test_inserted_bytes_are_refused(position: int, inserted: bytes) -> None:
    changed = SMALL[:position] + inserted + SMALL[position:]
    if position in MANIFEST or changed == SMALL:
        return
    with pytest.raises(BackupError):
        verified(changed)


@given(st.binary(max_size=200))
def test_random_bytes_are_no_backup(file: bytes) -> None:
    with pytest.raises(BackupError):
        verified(file)


@given(st.lists(st.tuples(st.sampled_from([*dict(sections_of(SMALL)), "meta"]), st.binary(max_size=30)), max_size=5))
def test_sections_of_random_bytes_are_no_backup(parts: list[tuple[str, bytes]]) -> None:
    with pytest.raises(BackupError):
        verified(joined(parts))
