"""What is refused and why, and what is not."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import pytest
from msgspec import UNSET

from kora_daemon.backup import BackupError, Trouble, verify_backup
from kora_daemon.errors import KoraError
from tests.support.operations import NOON_MS, operation, wire_operation
from tests.unit.backup.backup_files import exported, joined, line, sealed, section, sections_of, verified

WHOLE = exported(operation(1), operation(2), operation(3))


def refusal(file: bytes) -> tuple[Trouble, str]:
    with pytest.raises(BackupError) as refused:
        verified(file)
    assert isinstance(refused.value, KoraError)
    return refused.value.kind, str(refused.value)


def without(name: str) -> bytes:
    return joined([part for part in sections_of(WHOLE) if part[0] != name])


def test_what_a_backup_says() -> None:
    backup = verified(WHOLE)
    assert backup.created_at_ms == NOON_MS
    assert backup.node_id == "server-1"
    assert backup.operation_count == 3
    assert backup.version_vector == {"node-a": 3}
    assert [read.id for read in backup.operations()] == ["op-1", "op-2", "op-3"]


def test_readings_of_the_operations_do_not_disturb_each_other() -> None:
    backup = verified(WHOLE)
    assert [first.id == second.id for first, second in zip(backup.operations(), backup.operations(), strict=True)] == [
        True,
        True,
        True,
    ]


def test_a_file_is_read_from_its_first_byte_wherever_it_stands() -> None:
    file = io.BytesIO(WHOLE)
    file.seek(17)
    assert verify_backup(file).operation_count == 3


class ReluctantFile(io.BytesIO):
    """Gives a few bytes at a time, as an unbuffered file may."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(7 if size is None or size < 0 else min(size, 7))


def test_a_file_may_give_less_than_was_asked_for() -> None:
    assert [read.id for read in verify_backup(ReluctantFile(WHOLE)).operations()] == ["op-1", "op-2", "op-3"]


def test_a_client_s_backup_has_more_sections() -> None:
    more = [("meta", b'{"k":"v"}'), ("records:todos", b'{"id":"x"}\n'), ("records:todos", b"\xff\x00")]
    file = sealed(line(1) + line(2), more=more, includesRecords=True, collections=["todos"], schemaVersion=7)
    assert [read.id for read in verified(file).operations()] == ["op-1", "op-2"]
    assert refusal(file.replace(b'"v"', b'"w"'))[0] == "checksum"


def test_sections_may_come_in_any_order() -> None:
    manifest, vector, operations, checksum = sections_of(WHOLE)
    assert verified(joined([checksum, vector, operations, manifest])).operation_count == 3
    assert refusal(joined([manifest, operations, vector, checksum]))[0] == "checksum"


@pytest.mark.parametrize("content", [b"", b"\n", b"\n\n \t\r\n"])
def test_no_operations(content: bytes) -> None:
    assert list(verified(sealed(content, operationCount=0)).operations()) == []


def test_the_last_line_may_lack_its_newline_and_lines_may_end_as_elsewhere() -> None:
    file = sealed((line(1) + b"\n" + line(2)).replace(b"\n", b"\r\n") + line(3)[:-1], operationCount=3)
    assert [read.id for read in verified(file).operations()] == ["op-1", "op-2", "op-3"]


@pytest.mark.parametrize("file", [b"", b"\x01\x02\x03\x04\x05", b"\0" * 100, b'{"version":1}', b"PK\x03\x04" * 9])
def test_no_backup(file: bytes) -> None:
    assert refusal(file)[0] == "not-a-backup"


def test_sections_of_something_else() -> None:
    assert refusal(section("chunk", b"x"))[0] == "not-a-backup"
    assert refusal(section(b"\xff\xfe", b"x"))[0] == "not-a-backup"


def test_a_cut_says_where() -> None:
    kind, message = refusal(WHOLE[:-1])
    assert kind == "incomplete"
    assert f"ends at byte {len(WHOLE)}, but the file has {len(WHOLE) - 1}" in message


def test_bytes_after_the_end() -> None:
    assert refusal(WHOLE + b"\0")[0] == "incomplete"
    assert refusal(WHOLE + b"\0" * 8)[0] == "not-a-backup"
    assert refusal(WHOLE + section("more", b""))[0] == "checksum"


@pytest.mark.parametrize("name", ["manifest", "version_vector", "operations", "checksum"])
def test_a_missing_section(name: str) -> None:
    assert refusal(without(name)) == ("incomplete", f"The file has no section {name}")


@pytest.mark.parametrize("name", ["manifest", "version_vector", "operations", "checksum"])
def test_a_section_that_comes_twice(name: str) -> None:
    kind, message = refusal(WHOLE + section(name, dict(sections_of(WHOLE))[name]))
    assert kind == "not-a-backup"
    assert f"{name} is at byte" in message


def test_a_table_of_sections_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kora_daemon.backup.sections.MAX_SECTIONS", 5)
    assert verified(sealed(line(), more=[("more", b"")])).operation_count == 1
    assert refusal(sealed(line(), more=[("more", b"")] * 2))[0] == "not-a-backup"


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"version": 2, "checksum": ...}, "version"),
        ({"version": True}, "version"),
        ({"version": "1"}, "version"),
        ({"version": 10**30}, "version"),
        ({"version": None}, "version"),
        ({"version": ...}, "version"),
        ({"checksum": ...}, "incomplete"),
        ({"checksum": ""}, "checksum"),
        ({"checksum": 5}, "not-a-backup"),
        ({"operationCount": ...}, "not-a-backup"),
        ({"operationCount": -1}, "not-a-backup"),
        ({"operationCount": True}, "not-a-backup"),
        ({"createdAt": "now"}, "not-a-backup"),
        ({"nodeId": None}, "not-a-backup"),
        ({"operationCount": 0}, "count"),
        ({"operationCount": 2}, "count"),
    ],
)
def test_a_wrong_manifest(changed: dict[str, Any], kind: Trouble) -> None:
    assert refusal(sealed(line(), **changed))[0] == kind


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b" " * 2_000_000])
def test_a_manifest_that_is_no_object(text: bytes) -> None:
    parts = [("manifest", text), *sections_of(WHOLE)[1:]]
    assert refusal(joined(parts))[0] == "not-a-backup"


def test_a_manifest_may_say_more() -> None:
    assert verified(sealed(line(), operationCount=1, app={"name": "x"}, version=1.0)).operation_count == 1


def test_the_checksum_is_judged_before_lines_and_count() -> None:
    broken = sealed(line() + b"{\n", operationCount=7)
    assert refusal(broken)[0] == "count"
    kind, message = refusal(broken.replace(b'"title"', b'"tible"'))
    assert kind == "checksum"
    assert "checksum in the manifest" in message


@pytest.mark.parametrize("found", [b"", b"0" * 64, b"\xff" * 64, b"A" * 65])
def test_a_wrong_section_checksum(found: bytes) -> None:
    kind, message = refusal(joined([*sections_of(WHOLE)[:-1], ("checksum", found)]))
    assert kind == "checksum"
    assert "section checksum" in message


def test_upper_case_is_another_checksum() -> None:
    parts = sections_of(WHOLE)
    assert refusal(joined([*parts[:-1], ("checksum", parts[-1][1].upper())]))[0] == "checksum"


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b'{"a":-1}', b'{"a":1.5}', b'{"a":9007199254740992}', b'{"":1}', b'{"a":"1"}', b'{"a":', b"\xff"],
)
def test_a_vector_that_is_none(text: bytes) -> None:
    kind, message = refusal(sealed(line(), vector=text))
    assert kind == "not-a-backup"
    assert "version vector" in message


def test_the_largest_vector_entry() -> None:
    assert verified(sealed(line(), vector=b'{ "a": 9007199254740991, "b": 0 }')).version_vector == {
        "a": 2**53 - 1,
        "b": 0,
    }


DEEP = json.loads('{"a":' * 300 + "{}" + "}" * 300)
TOO_DEEP = '{"a":' * 500 + "{}" + "}" * 500


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (b"{", "property name"),
        (b"[]", "an object"),
        (b"NaN", "NaN is no JSON"),
        (b"\xff", "utf-8"),
        (line().replace(b'"x"', b'"\xff"')[:-1], "utf-8"),
        (line().replace(b'"x"', b'"\t"')[:-1], "control character"),
        (line(id="")[:-1], "id is"),
        (line(id="\ud800")[:-1], "id is"),
        (line(nodeId="n" * 256)[:-1], "nodeId is"),
        (line(type="upsert")[:-1], "type is"),
        (line(data=[])[:-1], "data is a list"),
        (line(previousData="x")[:-1], "previousData is the text"),
        (line(sequenceNumber=2**53)[:-1], "sequenceNumber is"),
        (line(sequenceNumber=True)[:-1], "sequenceNumber is"),
        (line(causalDeps=None)[:-1], "causalDeps is null"),
        (line(schemaVersion=0)[:-1], "schemaVersion is"),
        (line(atomicOps=[1])[:-1], "atomicOps is a list"),
        (line(atomicOps={"n": {"type": "increment", "value": "1"}})[:-1], "value is"),
        (line(timestamp={"wallTime": 1.5, "logical": 0, "nodeId": "a"})[:-1], "wallTime is 1.5"),
        (line(timestamp={"wallTime": -1, "logical": 0, "nodeId": "a"})[:-1], "timestamp"),
        (line(timestamp={"wallTime": 1, "logical": 100_000, "nodeId": "a"})[:-1], "timestamp"),
        (line(timestamp={"wallTime": 10**30, "logical": 0, "nodeId": "a"})[:-1], "timestamp"),
        (line().replace(b'{"title":"x"}', TOO_DEEP.encode())[:-1], "more than 500 levels"),
        (line().replace(b'"x"', b"[" * 100_000 + b"]" * 100_000)[:-1], "nested too deeply"),
        (line().replace(b'"x"', b"9" * 5_000)[:-1], "4300 digits"),
    ],
)
def test_a_line_that_is_no_operation(text: bytes, word: str) -> None:
    kind, message = refusal(sealed(b"\n" + line(1) + text + b"\n" + line(3)))
    assert (kind, message[:28]) == ("operation", "Section operations, line 3: ")
    assert word in message
    assert len(message) < 400


def test_a_line_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("lines", "reading"):
        monkeypatch.setattr(f"kora_daemon.backup.{module}.MAX_LINE_BYTES", 1_000)
    longest = wire_operation(data={"title": ""})
    longest["data"]["title"] = "x" * (1_000 - len(json.dumps(longest, separators=(",", ":"))))
    assert verified(sealed(line(1) + line(**longest) + line(3))).operation_count == 3
    longest["data"]["title"] += "x"
    kind, message = refusal(sealed(line(1) + line(**longest) + line(3)))
    assert (kind, message) == ("operation", "Section operations, line 2: the line is longer than 1000 bytes")
    assert refusal(sealed(line(1) + b"x" * 500_000 + b"\n" + line(3), operationCount=4))[0] == "count"


@pytest.mark.parametrize(
    "data",
    [
        '{"half":"\\ud800","other":"\\uDFFF x"}',
        '{ "half" : "\\ud800" , "n" : 12345678901234567890.50 , "n" : -0 }',
        '{"n":1e999,"m":0.10}',
        '{"é😀":"\\u00e9\\/"}',
        json.dumps(DEEP),
        json.dumps({"lists": [[]] * 600}),
        '{"n":' + "9" * 4_000 + "}",
        '{"text":"' + "9" * 5_000 + '"}',
        "{}",
        "null",
    ],
)
def test_raw_texts_are_those_of_the_line(data: str) -> None:
    text = line(type="update", atomicOps={"n": {"type": "append", "value": "V"}}).decode()
    text = (
        text.replace('{"title":"x"}', data)
        .replace('"V"', data)
        .replace('"previousData":null', f'"previousData":{data}')
    )
    (read,) = verified(sealed(text.encode())).operations()
    assert bytes(read.data).decode() == bytes(read.previous_data).decode() == data
    assert read.atomic_ops is not UNSET
    assert bytes(read.atomic_ops).decode() == f'{{"n":{{"type":"append","value":{data}}}}}'


def test_integers_in_any_spelling_and_members_beyond_the_known() -> None:
    text = line(transactionId=None, atomicOps={}, more="\ud800").replace(
        b'"sequenceNumber":1,', b'"sequenceNumber":1.0,'
    )
    text = text.replace(f"{NOON_MS}".encode(), b"1.7e12")
    (read,) = verified(sealed(text)).operations()
    assert (read.sequence_number, type(read.sequence_number)) == (1, int)
    assert (read.timestamp.wall_time, type(read.timestamp.wall_time)) == (NOON_MS, int)
    assert (read.transaction_id, read.atomic_ops) == (UNSET, UNSET)


def test_a_member_that_comes_twice_counts_as_the_last() -> None:
    for half in ("", "\\ud800"):
        text = line().replace(b'"data":', b'"data":{"title":"first"},"data":').replace(b'"x"', f'"{half}"'.encode())
        (read,) = verified(sealed(text)).operations()
        assert bytes(read.data).decode() == f'{{"title":"{half}"}}'


def test_a_file_that_changes_after_it_was_verified() -> None:
    file = io.BytesIO(WHOLE)
    backup = verify_backup(file)
    file.seek(WHOLE.index(b'"op-2"'))
    file.write(b"[op-2]")
    reading = backup.operations()
    assert next(reading).id == "op-1"
    with pytest.raises(BackupError, match="line 2") as refused:
        next(reading)
    assert refused.value.kind == "operation"
    file.truncate(300)
    with pytest.raises(BackupError, match="ended at byte 300"):
        list(backup.operations())


def test_a_header_that_promises_4_gib() -> None:
    assert refusal(struct.pack("<II", 8, 2**32 - 1) + b"manifest{}")[0] == "incomplete"
