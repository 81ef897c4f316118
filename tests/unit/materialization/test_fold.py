"""Single steps of the fold, and the state between them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from msgspec import UNSET, Raw

from kora_daemon.materialization.fold import RecordState, advance, fold, parse_state, state_text
from kora_daemon.model.operation import NULL, Operation, Timestamp
from tests.support.log import operation


def step(kind: str, wall_time: int, data: dict[str, Any] | str | None = None, **atomic: Any) -> Operation:
    """An operation of `kind`; `data` is a JSON value or the text of one, `atomic` maps field -> (type, operand)."""
    intents = {field: {"type": intent, "value": operand} for field, (intent, operand) in atomic.items()}
    return operation(
        wall_time,
        type=kind,
        timestamp=Timestamp(wall_time, 0, "node-a"),
        data=NULL if data is None else Raw((data if isinstance(data, str) else json.dumps(data)).encode()),
        atomic_ops=Raw(json.dumps(intents).encode()) if intents else UNSET,
    )


def test_a_delete_hides_and_an_update_brings_everything_back() -> None:
    insert, delete = step("insert", 1, {"a": 1, "b": 2}), step("delete", 2)
    hidden = fold([insert, delete])
    assert (hidden.live, hidden.fields) == (False, {"a": 1, "b": 2})
    shown = advance(hidden, step("update", 3, {"b": 3}))
    assert shown is not None
    assert (shown.live, shown.fields) == (True, {"a": 1, "b": 3})


def test_an_insert_erases_fields_but_no_chain() -> None:
    state = fold(
        [
            step("insert", 1, {"n": 5, "m": 5}),
            step("update", 2, {"n": 8, "m": 8}, n=("increment", 3), m=("increment", 3)),
            step("insert", 3, {"m": 1}),
        ]
    )
    assert (state.fields, state.atomic_writers) == ({"m": 1}, {"n": "increment"})
    after = fold_onto(state, step("update", 4, {"n": 99, "m": 99}, n=("increment", 5), m=("increment", 5)))
    assert after.fields == {"n": 5, "m": 99}


def test_a_delete_cuts_no_chain() -> None:
    state = fold(
        [
            step("insert", 1, {"n": 5}),
            step("update", 2, {"n": 8}, n=("increment", 3)),
            step("delete", 3),
            step("update", 4, {"n": 10}, n=("increment", 5)),
        ]
    )
    assert (state.live, state.fields) == (True, {"n": 13})


def test_an_intent_without_data_neither_composes_nor_cuts_a_chain() -> None:
    state = fold([step("update", 1, {"n": 5}, n=("increment", 5)), step("update", 2, {}, n=("increment", 3))])
    assert state.fields == {"n": 5}
    state = fold_onto(state, step("update", 3, {}, n=("max", 9)))
    assert fold_onto(state, step("update", 4, {"n": 1}, n=("increment", 1))).fields == {"n": 6}


def test_an_operation_that_changes_nothing_still_counts_in_the_times() -> None:
    state = fold([step("insert", 5), step("update", 9), step("delete", 7), step("update", 3)])
    assert (state.live, state.fields) == (False, {})
    assert (state.created_at_ms, state.updated_at_ms) == (3, 9)


def test_an_update_without_data_does_not_resurrect() -> None:
    state = fold([step("insert", 1, {"a": 1}), step("delete", 2)])
    assert not fold_onto(state, step("update", 3)).live
    assert fold_onto(state, step("update", 3, {})).live


@pytest.mark.parametrize("text", ["[1]", '"text"', "7", "[" * 100_000 + "]" * 100_000])
def test_data_of_other_servers_that_is_no_readable_object_counts_as_none(text: str) -> None:
    state = fold([step("insert", 1, {"a": 1})])
    assert fold_onto(state, step("insert", 2, text)) == RecordState(1, (2, 0, "node-a"), True, {"a": 1}, {})


def test_an_unknown_type_does_nothing() -> None:
    state = fold([step("insert", 1, {"a": 1})])
    assert fold_onto(state, step("upsert", 2, {"a": 2})).fields == {"a": 1}


def test_damaged_data_is_an_error() -> None:
    with pytest.raises(ValueError, match="Expecting value"):
        advance(None, step("insert", 1, '{"a":'))


def test_only_an_older_operation_needs_a_replay() -> None:
    state = fold([step("insert", 2, {"a": 1})])
    assert advance(state, step("update", 1, {"a": 0})) is None
    assert advance(state, step("update", 2, {"a": 2})) is not None


def test_the_node_of_the_timestamp_orders_by_code_point() -> None:
    upper, lower = Timestamp(1, 0, "B"), Timestamp(1, 0, "a")
    state = advance(None, operation(1, node="z", timestamp=lower))
    assert state is not None
    assert advance(state, operation(2, node="z", timestamp=upper)) is None


def test_an_encrypted_update_replaces_the_envelope_and_leaves_its_intents_alone() -> None:
    first, second = ({"__kora_e2e_encrypted": {"v": 1, "ct": text}} for text in ("x", "y"))
    state = fold([step("insert", 1, first), step("update", 2, second, n=("increment", 1))])
    assert (state.fields, state.atomic_writers) == (second, {})


def test_a_record_without_operations_has_no_state() -> None:
    with pytest.raises(ValueError, match="no operation"):
        fold([])


def test_a_state_is_one_short_line() -> None:
    state = fold([step("insert", 1, {"n": 1, "t": "é"}), step("update", 2, {"n": 2}, n=("increment", 1))])
    text = state_text(state)
    assert text == '[1,[2,0,"node-a"],true,{"n":2,"t":"é"},{"n":"increment"}]'
    assert parse_state(text) == state


@pytest.mark.parametrize("value", ['"\\ud800"', "1e400", "-1e400", "9007199254740993", '{"\\udc00":[1e400]}', "5e-324"])
def test_a_state_keeps_what_is_hard_to_hold(value: str) -> None:
    state = fold([step("insert", 1, f'{{"v":{value},"n":1}}')])
    assert parse_state(state_text(state)) == state
    assert parse_state(state_text(state).encode()) == state


def test_an_infinite_sum_stays_infinite() -> None:
    state = fold(
        [
            step("update", 1, {"n": 1e308}, n=("increment", 1e308)),
            step("update", 2, {"n": None}, n=("increment", 1e308)),
        ]
    )
    kept = parse_state(state_text(state))
    assert fold_onto(kept, step("update", 3, {"n": 0}, n=("increment", -1e308))).fields == state.fields


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[1,[2,0,"a"],true,[],{}]', "[1,", '[1,[2,0,"\\ud800"],1,{},{}]'])
def test_a_text_that_is_no_state_is_an_error(text: str) -> None:
    with pytest.raises((ValueError, msgspec.ValidationError)):
        parse_state(text)


def fold_onto(state: RecordState, arrived: Operation) -> RecordState:
    after = advance(state, arrived)
    assert after is not None
    return after
