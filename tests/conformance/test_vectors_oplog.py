"""Every case of `oplog.json` on every store: dedupe, delivery sequence, version vector, ranges, round trip.

Where the reference's stores differ, the decisions of store.md section 11 are pinned: no entry for an author of sequence
number 0 only, transaction ids and mutation names are kept. An empty `atomicOps` stays with its store's kind.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kora_daemon.model.operation import Operation
from kora_daemon.store.contract import Store
from tests.conformance.test_store_contract import STORES
from tests.support.log import RECEIVED_AT_MS

Case = dict[str, Any]

CASES: list[Case] = json.loads((Path(__file__).parent / "data" / "vectors" / "oplog.json").read_text())["cases"]
DECIDED_AS_MEMORY = {"sequence 0 leaves the vector at 0", "transactionId and mutationName"}
"""Cases that are not portable, and in which all our stores do what the reference's memory store does."""


def test_no_case_was_lost() -> None:
    assert len(CASES) == 18
    assert {case["name"] for case in CASES if not case["portable"]} == {*DECIDED_AS_MEMORY, "empty atomicOps"}


@pytest.fixture(params=STORES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(kind: str, tmp_path: Path) -> Iterator[Store]:
    made = STORES[kind](tmp_path)
    made.open()
    yield made
    made.close()


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_the_log_answers_as_the_vector_says(kind: str, store: Store, case: Case) -> None:
    expected = case if case["portable"] else _decided(kind, case)
    assert [_upload(store, sent) for sent in case["operations"]] == expected["results"]
    assert store.count_operations() == expected["count"]
    assert store.frontier() == expected["maxDelivery"]
    assert store.version_vector() == expected["versionVector"]
    index_of = _first_indexes(case["operations"])
    for page in expected["after"]:
        entries = store.entries_after(page["after"], page["limit"])
        assert [[entry.sequence, index_of[entry.operation.id]] for entry in entries] == page["result"]
    for asked in expected["ranges"]:
        found = store.operation_range(asked["node"], asked["from"], asked["to"])
        assert [index_of[one.id] for one in found] == asked["result"]
    if "roundtrip" in expected:
        entries = store.entries_after(0, len(case["operations"]))
        assert [_as_json(entry.operation) for entry in entries] == expected["roundtrip"]


def _decided(kind: str, case: Case) -> Case:
    if kind == "memory" or case["name"] in DECIDED_AS_MEMORY:
        return {**case, **case["differs"]["memory"]}
    return case


def _upload(store: Store, sent: Case) -> str:
    """What the apply pipeline does with one operation."""
    decoded = msgspec.json.decode(json.dumps(sent, ensure_ascii=False), type=Operation)
    with store.transaction() as tx:
        if tx.known_ids([decoded.id]):
            return "duplicate"
        tx.append([decoded], RECEIVED_AT_MS)
    return "applied"


def _first_indexes(sent: list[Case]) -> dict[str, int]:
    indexes: dict[str, int] = {}
    for index, one in enumerate(sent):
        indexes.setdefault(one["id"], index)
    return indexes


def _as_json(stored: Operation) -> Case:
    return dict(json.loads(msgspec.json.encode(stored)))
