"""What is written: the line format, the raw texts, chunks, and logs that no backup can hold."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import pytest
from msgspec import UNSET, Raw

from kora_daemon.backup import BackupError, BackupTooLarge, export_backup
from kora_daemon.model.operation import NULL, Operation, Timestamp
from tests.support.operations import NOON_MS, operation
from tests.unit.backup.backup_files import Log, exported, sections_of, verified


def written_line(written: Operation) -> str:
    text = dict(sections_of(exported(written)))["operations"].decode()
    assert text.endswith("\n")
    return text[:-1]


def raw(text: str) -> Raw:
    return Raw(text.encode())


def test_members_in_the_order_of_the_format_and_only_those_that_are_set() -> None:
    bare = operation(causal_deps=["op-0"])
    assert list(json.loads(written_line(bare))) == [
        "id",
        "nodeId",
        "type",
        "collection",
        "recordId",
        "data",
        "previousData",
        "timestamp",
        "sequenceNumber",
        "causalDeps",
        "schemaVersion",
    ]
    full = operation(atomic_ops=raw('{"n":{"type":"max","value":1}}'), transaction_id="", mutation_name="rename")
    assert list(json.loads(written_line(full)))[-3:] == ["transactionId", "mutationName", "atomicOps"]
    assert "Id" not in written_line(operation(transaction_id=None, mutation_name=None)).split('"schemaVersion"')[1]


@pytest.mark.parametrize("nothing", ["{}", "null"])
def test_atomic_ops_that_hold_nothing_are_unset(nothing: str) -> None:
    assert "atomicOps" not in written_line(operation(atomic_ops=raw(nothing)))


@pytest.mark.parametrize(
    "text",
    [
        '{"b":1,"a":2,"b":3}',
        '{"n":12345678901234567890.50,"m":1E+2,"z":-0}',
        '{"half":"\\uD800","slash":"\\/","é":"\\u00e9"}',
        '{ "a" : [ 1 , 2 ] }',
        '{"a":\r1}',
    ],
)
def test_a_raw_text_stands_as_its_author_wrote_it(text: str) -> None:
    assert f'"data":{text},"previousData":{text},' in written_line(
        operation(data=None, previous_data=raw(text))
    ).replace('"data":{"title": "x"}', f'"data":{text}')


@pytest.mark.parametrize(
    ("broken", "joined"),
    [
        ('{\n  "a": [1, 2],\r\n\t"a" : "x y\\n\\" \\\\"\n}', '{"a":[1,2],"a":"x y\\n\\" \\\\"}'),
        ('{"n":\n1.50, "m": -0}', '{"n":1.50,"m":-0}'),
        ('{"half"\n:"\\ud800 \\" "}', '{"half":"\\ud800 \\" "}'),
    ],
)
def test_a_raw_text_of_several_lines_loses_the_space_between_its_tokens(broken: str, joined: str) -> None:
    written = written_line(operation(type="update", previous_data=raw(broken)))
    assert f'"data":{{"title": "x"}},"previousData":{joined},' in written


def test_each_raw_text_is_joined_for_itself() -> None:
    atomic = raw('{"n":\n{"type":"increment" , "value":1}}')
    written = written_line(operation(previous_data=raw('{"a": 1}'), atomic_ops=atomic))
    assert '"previousData":{"a": 1}' in written
    assert written.endswith('"atomicOps":{"n":{"type":"increment","value":1}}}')


def test_an_empty_log_is_a_lone_newline() -> None:
    assert dict(sections_of(exported()))["operations"] == b"\n"


def test_the_manifest_says_who_and_when_and_how_many() -> None:
    manifest = json.loads(dict(sections_of(exported(operation(1), operation(2), node_id='a "node"')))["manifest"])
    assert (manifest["nodeId"], manifest["createdAt"], manifest["operationCount"]) == ('a "node"', NOON_MS, 2)


def test_chunks_are_neither_small_nor_large() -> None:
    log = Log([operation(number, data={"title": "x" * 1_000}) for number in range(1, 1_001)])
    sizes = [len(chunk) for chunk in export_backup(log, "server-1", NOON_MS)]
    assert len(sizes) > 5
    assert all(64 * 1_024 <= size <= 256 * 1_024 for size in sizes[:-1])


@pytest.mark.parametrize(
    ("damaged", "word"),
    [
        (operation(type="upsert"), "type is the text"),
        (operation(record_id=""), "recordId"),
        (operation(causal_deps=["\ud800"]), "surrogates not allowed"),
        (operation(mutation_name="\udfff"), "surrogates not allowed"),
        (operation(previous_data=raw('{"a":"\n"}')), "control character"),
        (operation(previous_data=raw('{\n"a":"' + '\\"x' * 200_000)), "Expecting"),
        (operation(previous_data=raw('"text"')), "previousData is the text"),
        (operation(timestamp=Timestamp(-1, 0, "node-a")), "timestamp"),
    ],
)
def test_a_log_with_a_malformed_operation_can_not_be_exported(damaged: Operation, word: str) -> None:
    chunks = export_backup(Log([operation(1), damaged], {}), "server-1", NOON_MS)
    with pytest.raises(BackupError, match="can't be restored, 'op-1'") as refused:
        next(chunks)
    assert refused.value.kind == "operation"
    assert word in str(refused.value)


def test_a_vector_that_can_not_be_read_back_is_not_written() -> None:
    with pytest.raises(BackupError, match="version vector"):
        exported(vector={"node-a": -1})


def test_a_log_beyond_the_size_of_a_section(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kora_daemon.backup.export.MAX_CONTENT_BYTES", 1_000)
    exported(operation(1), operation(2))
    with pytest.raises(BackupTooLarge, match="expected at most 1000"):
        exported(*[operation(number) for number in range(1, 10)])


def test_a_vector_beyond_what_is_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kora_daemon.backup.export.MAX_VECTOR_BYTES", 10)
    with pytest.raises(BackupTooLarge, match="version vector"):
        exported(operation(1))


class ChangingLog:
    """Gives its nth reading on the nth call."""

    def __init__(self, *readings: list[Operation]) -> None:
        self._readings = iter(readings)

    def version_vector(self) -> Mapping[str, int]:
        return {"node-a": 1}

    def operations(self) -> Iterator[Operation]:
        return iter(next(self._readings))


@pytest.mark.parametrize("change_at", [1, 2])
def test_a_log_that_changes_while_it_is_written_leaves_a_file_that_is_refused(change_at: int) -> None:
    readings = [[operation(1)]] * 3
    readings[change_at] = [operation(1, data={"title": "y"})]
    written = b""
    with pytest.raises(BackupError, match="changed while it was written") as stopped:  # noqa: PT012
        for chunk in export_backup(ChangingLog(*readings), "server-1", NOON_MS):
            written += chunk
    assert stopped.value.kind == "checksum"
    with pytest.raises(BackupError):
        verified(written)


def test_unset_and_null_come_back_unset() -> None:
    (read,) = verified(exported(operation(transaction_id=None, data=None, previous_data=NULL))).operations()
    assert (read.transaction_id, read.mutation_name, read.atomic_ops) == (UNSET, UNSET, UNSET)
    assert read.previous_data == NULL
