"""Every case of `backup.json`, as far as the format goes: the bytes of an export, the verdict on an import."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kora_daemon.backup import BackupError, export_backup
from kora_daemon.model.operation import Operation, encode_operation
from tests.unit.backup.backup_files import Log, sections_of, verified

Case = dict[str, Any]

VECTORS = Path(__file__).parents[2] / "conformance" / "data" / "vectors" / "backup.json"
CASES: list[Case] = json.loads(VECTORS.read_text())["cases"]
EXPORTS = [case for case in CASES if case["kind"] == "export"]
IMPORTS = [case for case in CASES if case["kind"] == "import"]
KINDS = {"checksum": "checksum", "incomplete": "incomplete", "not a backup": "not-a-backup"}
"""The words of the vectors."""


def test_no_case_was_lost() -> None:
    assert (len(EXPORTS), len(IMPORTS)) == (2, 15)
    assert len([case for case in IMPORTS if "error" in case.get("recommended", {})]) == 10


@pytest.mark.parametrize("case", EXPORTS, ids=[case["name"] for case in EXPORTS])
def test_an_export_has_the_bytes_of_the_vector(case: Case) -> None:
    operations = [_operation(member) for member in case["operations"]]
    vector: dict[str, int] = {}
    for operation in operations:
        vector[operation.node_id] = max(operation.sequence_number, vector.get(operation.node_id, 0))
    written = b"".join(export_backup(Log(operations, vector), case["serverNode"], case["now"]))
    assert [(name, content.decode()) for name, content in sections_of(written)] == [
        (section["name"], section["text"]) for section in case["sections"]
    ]
    assert written == base64.b64decode(case["bytes"])


@pytest.mark.parametrize("case", IMPORTS, ids=[case["name"] for case in IMPORTS])
def test_an_import_is_judged_as_the_vector_recommends(case: Case) -> None:
    file = base64.b64decode(case["bytes"])
    word = case.get("recommended", {}).get("error")
    if word is None:
        backup = verified(file)
        assert backup.version_vector == {"node-a": 3, "node-b": 9}
        assert [operation.id for operation in backup.operations()] == _ids(file)
        assert backup.operation_count == 4
        assert backup.node_id == "other-server"
        assert backup.created_at_ms == 1_700_000_001_000
    else:
        with pytest.raises(BackupError) as refused:
            verified(file)
        assert refused.value.kind == KINDS[word.removesuffix(", nothing changed")]


@pytest.mark.parametrize("case", EXPORTS, ids=[case["name"] for case in EXPORTS])
def test_what_was_exported_comes_back(case: Case) -> None:
    read = [
        json.loads(encode_operation(operation)) for operation in verified(base64.b64decode(case["bytes"])).operations()
    ]
    assert read == case["operations"]


def _operation(member: dict[str, Any]) -> Operation:
    return msgspec.json.decode(json.dumps(member, ensure_ascii=False, separators=(",", ":")), type=Operation)


def _ids(file: bytes) -> list[str]:
    lines = dict(sections_of(file))["operations"].splitlines()
    return [json.loads(line)["id"] for line in lines]
