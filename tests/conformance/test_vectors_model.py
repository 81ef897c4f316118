"""Every vector of the model: what the reference answers for ids, clocks, vectors, causal order, sizes, structure."""

from __future__ import annotations

import json
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET, Raw

from kora_daemon.model.binary import (
    MalformedBytes,
    decode_bytes,
    is_blob_reference,
    is_index_bytes,
    is_tagged_bytes,
)
from kora_daemon.model.clock import (
    INGEST_TOLERANCE_MS,
    HybridClock,
    IngestVerdict,
    InvalidTimestamp,
    RemoteClockDrift,
    clock_order,
    judge_arrival,
    parse_timestamp,
    timestamp_text,
)
from kora_daemon.model.delivery import CausalKey
from kora_daemon.model.identity import content_text, is_uuid7, operation_id, uuid7, uuid7_time_ms
from kora_daemon.model.jsvalue import canonical_json
from kora_daemon.model.limits import OperationBudget
from kora_daemon.model.operation import NULL, Operation, Timestamp
from kora_daemon.model.structure import structure_problem
from kora_daemon.model.versions import (
    advance_vector,
    causal_order,
    dominates,
    merge_vectors,
    vector_text,
    vectors_equal,
)
from kora_daemon.protocol.events import Moment
from kora_daemon.protocol.messages import OperationBatch
from kora_daemon.protocol.uploads import UploadLimits, Uploads
from kora_daemon.wire.json import decode as decode_json
from tests.support.operations import batch_text

VECTORS = Path(__file__).parent / "data" / "vectors"
CASE_COUNTS = {
    "op-ids": 81,
    "hlc": 64,
    "identifiers": 74,
    "toposort": 30,
    "limits": 13,
    "operation-structure": 71,
}

Case = dict[str, Any]
Check = Callable[[Case], None]


def read_cases(name: str) -> list[Case]:
    cases: list[Case] = json.loads((VECTORS / f"{name}.json").read_text("utf-8"))["cases"]
    return cases


def read_timestamp(value: Case) -> Timestamp:
    return Timestamp(value["wallTime"], value["logical"], value["nodeId"])


# --- op-ids


def raw_json(value: Any) -> Raw:
    return Raw(json.dumps(value).replace("Infinity", "1e400").encode())


def read_operation(value: Case) -> Operation:
    return Operation(
        id="not part of the content",
        node_id=value["nodeId"],
        type=value["type"],
        collection=value["collection"],
        record_id=value["recordId"],
        timestamp=read_timestamp(value["timestamp"]),
        sequence_number=value.get("sequenceNumber", 1),
        causal_deps=value.get("causalDeps", []),
        schema_version=value.get("schemaVersion", 1),
        data=raw_json(value["data"]),
        previous_data=raw_json(value["previousData"]) if "previousData" in value else NULL,
        atomic_ops=raw_json(value["atomicOps"]) if "atomicOps" in value else UNSET,
        transaction_id=value.get("transactionId", UNSET),
        mutation_name=value.get("mutationName", UNSET),
    )


def check_operation_id(case: Case) -> None:
    operation = read_operation(case["input"])
    assert content_text(operation) == case["canonical"]
    assert operation_id(operation) == case["id"]
    assert canonical_json(json.loads(case["canonical"])) == case["canonical"]


# --- hlc


def check_serialize(case: Case) -> None:
    timestamp = read_timestamp(case["timestamp"])
    if "error" in case:
        with pytest.raises(InvalidTimestamp):
            timestamp_text(timestamp)
    else:
        assert timestamp_text(timestamp) == case["result"]


def check_deserialize(case: Case) -> None:
    if "error" in case:
        with pytest.raises(InvalidTimestamp):
            parse_timestamp(case["text"])
    else:
        assert parse_timestamp(case["text"]) == read_timestamp(case["result"])


def check_compare(case: Case) -> None:
    left, right = (clock_order(read_timestamp(case[side])) for side in "ab")
    assert (left > right) - (left < right) == case["result"]


def check_sort(case: Case) -> None:
    timestamps = [read_timestamp(value) for value in case["input"]]
    assert sorted(timestamps, key=clock_order) == [read_timestamp(value) for value in case["result"]]


def check_clock(case: Case) -> None:
    drift: list[list[Any]] = []
    clock = HybridClock(
        case["nodeId"],
        on_drift_warning=lambda ms: drift.append(["warning", ms]),
        on_drift_error=lambda ms: drift.append(["error", ms]),
    )
    physical_ms = 0
    for step in case["steps"]:
        physical_ms = step.get("physical", physical_ms)
        assert take_clock_step(clock, step, physical_ms) == {"result": step.get("result"), "error": step.get("error")}
        assert drift == step.get("drift", [])
        drift.clear()


def take_clock_step(clock: HybridClock, step: Case, physical_ms: int) -> Case:
    try:
        match step["call"]:
            case "now":
                reading = clock.now(physical_ms)
            case "receive":
                reading = clock.receive(read_timestamp(step["remote"]), physical_ms)
            case "advanceTo":
                clock.advance_to(read_timestamp(step["remote"]))
                return {"result": None, "error": None}
            case "setReferenceOffset":
                clock.set_reference_offset(step["offset"])
                return {"result": None, "error": None}
            case unknown:
                pytest.fail(f"unknown step {unknown}")
    except InvalidTimestamp:
        return {"result": None, "error": "invalid-timestamp"}
    except RemoteClockDrift:
        return {"result": None, "error": "clock-drift"}
    return {"result": [reading.wall_time, reading.logical], "error": None}


def check_ingest(case: Case) -> None:
    timestamp = read_timestamp(case["timestamp"])
    verdict = judge_arrival(timestamp, case["now"])
    if case["valid"]:
        assert verdict is IngestVerdict.OK
    elif timestamp.wall_time > case["now"] + INGEST_TOLERANCE_MS:
        assert verdict is IngestVerdict.TOO_FAR_AHEAD
    else:
        assert verdict is IngestVerdict.MALFORMED


# --- identifiers


def answers(function: Callable[..., Any], *arguments: str) -> Check:
    """A check that the function of these fields gives the result, true and 1 told apart."""

    def check(case: Case) -> None:
        answer = function(*(case[argument] for argument in arguments))
        assert (type(answer), answer) == (type(case["result"]), case["result"])

    return check


def check_uuid7(case: Case) -> None:
    assert uuid7(case["ms"], bytes.fromhex(case["randomHex"])) == case["result"]


def check_decode_bytes(case: Case) -> None:
    if "error" in case:
        with pytest.raises(MalformedBytes):
            decode_bytes(case["value"])
        return
    expected = case["result"]
    assert decode_bytes(case["value"]) == (expected if isinstance(expected, str) else b64decode(expected["$bytes"]))


# --- toposort

CYCLES_CUT_OPEN = {
    "cycle of two": ["a", "b"],
    "cycle with a tail": ["d", "a", "b", "c"],
    "depends on itself": ["b", "a"],
}
"""The reference raises on a cycle. This server goes on with the earliest of the operations that are left."""


def check_causal_order(case: Case) -> None:
    keys = [
        CausalKey(sequence, value["id"], value["causalDeps"], read_timestamp(value["timestamp"]).order_key)
        for sequence, value in enumerate(case["operations"], start=1)
    ]
    expected = CYCLES_CUT_OPEN[case["name"]] if "error" in case else case["result"]
    assert [key.id for key in causal_order(keys)] == expected
    assert [key.id for key in causal_order(keys[::-1])] == expected


# --- limits


def is_small_enough(operation: Any, limits: UploadLimits) -> bool:
    """Whether a session takes an operation that came as a client prints it."""
    batch = decode_json(canonical_json(json.loads(batch_text(operation))).encode())
    assert isinstance(batch, OperationBatch)
    moment = Moment(operation["timestamp"]["wallTime"], 0)
    return len(Uploads(limits, 0, str).receive(batch, moment)) == 1


def check_size(case: Case) -> None:
    operation, size_bytes = case["operation"], case["bytes"]
    assert is_small_enough(operation, UploadLimits(case["limit"])) is case["valid"]
    assert [is_small_enough(operation, UploadLimits(limit)) for limit in (size_bytes - 1, size_bytes)] == [False, True]


def check_size_default(case: Case) -> None:
    character, count = case["repeat"]
    operation = case["operation"] | {"data": case["operation"]["data"] | {case["field"]: character * count}}
    assert is_small_enough(operation, UploadLimits()) is case["valid"]


def check_rate(case: Case) -> None:
    """The reference drops what exceeds a fixed window; this server lets the client wait (wire.md section 7).

    The two differ on purpose. A bucket above 0 takes a whole batch, so one batch more may pass than the window allows;
    it refills all the time, so nobody waits until the minute ends; what is not read costs nothing. What must hold:
    nothing that the reference allows has to wait, no more passes than the limit, its refill and one batch, and who has
    to wait is told the very millisecond at which that ends.
    """
    limit = case["limit"]
    largest = max(step["count"] for step in case["steps"])
    budget = OperationBudget(limit, 0)
    taken = 0
    for step in case["steps"]:
        now_ms, count = step["at"], step["count"]
        ready_ms = budget.ready_at(now_ms)
        if ready_ms > now_ms:
            assert not step["allowed"]
            assert budget.ready_at(ready_ms - 1) == ready_ms
            assert budget.ready_at(ready_ms) == ready_ms
            continue
        budget.take(count, now_ms)
        taken += count
        assert taken < limit + limit * now_ms / 60_000 + largest


# --- operation-structure


def check_structure(case: Case) -> None:
    problem = structure_problem(case["operation"])
    if case["valid"]:
        assert problem is None
    else:
        assert problem is not None
        assert ", expected " in problem


CHECKS: dict[tuple[str, str], Check] = {
    ("op-ids", ""): check_operation_id,
    ("hlc", "serialize"): check_serialize,
    ("hlc", "deserialize"): check_deserialize,
    ("hlc", "compare"): check_compare,
    ("hlc", "sort"): check_sort,
    ("hlc", "clock"): check_clock,
    ("hlc", "ingest"): check_ingest,
    ("identifiers", "merge"): answers(merge_vectors, "a", "b"),
    ("identifiers", "dominates"): answers(dominates, "a", "b"),
    ("identifiers", "equal"): answers(vectors_equal, "a", "b"),
    ("identifiers", "advance"): answers(advance_vector, "vector", "node", "sequence"),
    ("identifiers", "serialize"): answers(vector_text, "vector"),
    ("identifiers", "uuidv7"): check_uuid7,
    ("identifiers", "is-uuidv7"): answers(is_uuid7, "text"),
    ("identifiers", "uuidv7-time"): answers(uuid7_time_ms, "text"),
    ("identifiers", "is-blob-ref"): answers(is_blob_reference, "value"),
    ("identifiers", "is-tagged-bytes"): answers(is_tagged_bytes, "value"),
    ("identifiers", "is-legacy-bytes"): answers(is_index_bytes, "value"),
    ("identifiers", "decode-bytes"): check_decode_bytes,
    ("toposort", ""): check_causal_order,
    ("limits", "size"): check_size,
    ("limits", "size-default"): check_size_default,
    ("limits", "rate"): check_rate,
    ("operation-structure", ""): check_structure,
}


def title(case: Case) -> str:
    """The case's name, or the beginning of what it is about."""
    subject = [shown(value) for key, value in case.items() if key not in ("kind", "result", "error")]
    return str(case.get("name") or " ".join(subject)[:60])


def shown(value: Any) -> str:
    if isinstance(value, dict) and "wallTime" in value:
        return f"{value['wallTime']}:{value['logical']}:{value['nodeId']}"
    return json.dumps(value)


def vector_cases() -> Iterator[Any]:
    for name in CASE_COUNTS:
        numbers: Counter[str] = Counter()
        for case in read_cases(name):
            kind = case.get("kind", "")
            numbers[kind] += 1
            yield pytest.param(CHECKS[name, kind], case, id=f"{name} {kind or 'case'} {numbers[kind]}: {title(case)}")


@pytest.mark.parametrize(("check", "case"), list(vector_cases()))
def test_vector(check: Check, case: Case) -> None:
    check(case)


def test_no_case_is_left_out_and_all_are_binding() -> None:
    cases = {name: read_cases(name) for name in CASE_COUNTS}
    assert {name: len(found) for name, found in cases.items()} == CASE_COUNTS
    assert len(list(vector_cases())) == sum(CASE_COUNTS.values())
    assert all(case.get("portable", True) for found in cases.values() for case in found)
